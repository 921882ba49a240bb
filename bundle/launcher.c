/* Starts a program of the bundle with the bundle's own loader and libraries, wherever the folder lies and whatever libc
 * the system around it has. Linked statically and copied to bin/ under the name of each program it starts:
 *
 *     bin/toolboxd ...  =  loader/toolboxd <options> programs/python3 -I -m toolbox ...
 *     bin/python3 ...   =  loader/python3 <options> programs/python3 -I ...
 *     bin/NAME ...      =  loader/NAME <options> programs/NAME ...
 *
 * Each file of loader/ is a link to the one loader: its name is what `ps` and `top` show.
 *
 * Nothing is added to the environment for good. Variables meant for the loader or the libc of the system around us are
 * set aside under another name, which sitecustomize.py gives back to what the daemon starts, and the locale is the one
 * that is built into the libc: with another, Python may add LC_CTYPE.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEPT "SANDBOX_TOOLBOX_KEPT_"

static char root[PATH_MAX]; /* the bundle's folder */

static void *must(void *memory) {
    if (memory == NULL) {
        fputs("toolboxd: out of memory\n", stderr);
        exit(127);
    }
    return memory;
}

static char *joined(const char *first, const char *second, const char *third) {
    char *result = must(malloc(strlen(first) + strlen(second) + strlen(third) + 1));
    return strcat(strcat(strcpy(result, first), second), third);
}

/* Cut the last word off a path and return it. */
static char *cut(char *path) {
    char *slash = strrchr(path, '/');
    if (slash == NULL) {
        fprintf(stderr, "toolboxd: not the path of a program in bin/: %s\n", path);
        exit(127);
    }
    *slash = '\0';
    return slash + 1;
}

static int is_for_loader(const char *variable) {
    static const char *const starts[] = {"LD_", "GLIBC_TUNABLES=", "LOCPATH=", "LC_ALL="};
    for (size_t n = 0; n < sizeof starts / sizeof *starts; n++)
        if (strncmp(variable, starts[n], strlen(starts[n])) == 0) return 1;
    return 0;
}

static char **environment(char **old) {
    size_t count = 0;
    while (old[count] != NULL) count++;
    char **result = must(calloc(count + 2, sizeof *result));
    for (size_t n = 0; n < count; n++) result[n] = is_for_loader(old[n]) ? joined(KEPT, old[n], "") : old[n];
    result[count] = "LC_ALL=C.UTF-8";
    return result;
}

int main(int argc, char **argv, char **envp) {
    ssize_t length = readlink("/proc/self/exe", root, sizeof root - 1);
    if (length < 0) {
        fprintf(stderr, "toolboxd: /proc/self/exe: %s\n", strerror(errno));
        return 127;
    }
    char *name = must(strdup(cut(root)));
    cut(root);

    int is_daemon = strcmp(name, "toolboxd") == 0;
    int is_python = is_daemon || strcmp(name, "python3") == 0;
    char *loader = joined(root, "/loader/", name);
    char **command = must(calloc((size_t)argc + 12, sizeof *command));
    size_t n = 0;
    command[n++] = loader;
    command[n++] = "--inhibit-cache"; /* of the libraries of the system around us */
    command[n++] = "--library-path";
    command[n++] = "$ORIGIN/../lib"; /* seen from the program; unlike the path itself it may be given with colons in it */
    command[n++] = "--argv0"; /* by this Python finds its library, and sys.executable is this launcher */
    command[n++] = is_python ? joined(root, "/bin/", "python3") : argv[0];
    command[n++] = joined(root, "/programs/", is_python ? "python3" : name);
    if (is_python) command[n++] = "-I"; /* no PYTHON* variables, no packages of the user's */
    if (is_daemon) {
        command[n++] = "-m";
        command[n++] = "toolbox";
    }
    for (int given = 1; given < argc; given++) command[n++] = argv[given];
    execve(loader, command, environment(envp));
    fprintf(stderr, "toolboxd: %s: %s\n", loader, strerror(errno));
    return 127;
}
