"""The keyboard. Works in the X server's thread."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from toolbox.computeruse.input.injector import Injector
from toolbox.computeruse.input.keymap import Keymap, Stroke
from toolbox.computeruse.input.keys import Key
from toolbox.computeruse.input.keysyms import keysyms_of
from toolbox.computeruse.input.requests import GetState
from toolbox.computeruse.input.text import keysym_of
from toolbox.errors import BadRequest, ToolboxError

_KEYCODE_OF_NOTHING = 8
"""The lowest keycode: the kernel's code 0, which toolkits take for no key at all."""


class Keyboard:
    """Presses keys and types, and knows which keys it holds and which it has given a meaning.

    What the layout has no key for is bound to a spare one. It keeps its meaning until those who get its events have
    looked it up (`unbind` takes it away): they read the keymap when an event arrives, not as it was when it was sent.
    """

    def __init__(self, injector: Injector) -> None:
        self._injector = injector
        self.held: dict[int, list[int]] = {}
        """Keycodes by the keysym that was asked for."""
        self.bound: dict[int, int] = {}
        """Keysyms by keycode."""
        self._noted: set[int] = set()
        """Of the bound keycodes those that were not used since the focused program was asked."""
        self._free: set[int] = set()
        """Of the bound keycodes those whose events have been looked up."""

    def hold(self, modifiers: Sequence[Key]) -> list[int]:
        """Press modifiers, but for those that are down already, and return the keycodes to release."""
        if not modifiers:
            return []
        _, keymap = self._injector.state_and_keymap()
        down = set(self._injector.pressed_keys())
        keycodes = [self._modifier(keymap, each) for each in modifiers]
        keycodes = [keycode for keycode in keycodes if keycode not in down]
        for keycode in keycodes:
            self._injector.key(keycode, down=True)
        return keycodes

    def release(self, keycodes: Sequence[int]) -> None:
        """Release keys, the last one first."""
        for keycode in reversed(keycodes):
            self._injector.key(keycode, down=False)

    @contextmanager
    def holding(self, modifiers: Sequence[Key]) -> Iterator[None]:
        """Hold modifiers meanwhile."""
        keycodes = self.hold(modifiers)
        try:
            yield
        finally:
            self.release(keycodes)

    def press(self, key: Key, modifiers: Sequence[Key]) -> None:
        """Press and release a key while modifiers are held."""
        keysym, stroke = self._stroke(key)
        with self.holding(modifiers), self._reaching(stroke):
            self._injector.key(stroke.keycode, down=True)
            self._injector.key(stroke.keycode, down=False)
            if keysym in self.held:  # it was down: now it is not
                self.up(key)
        self._injector.state()

    def down(self, key: Key) -> None:
        """Press and hold a key, if it is not held already."""
        keysym, stroke = self._stroke(key)
        if keysym in self.held:
            return
        with self._reaching(stroke, hold=True) as shifting:
            self.held[keysym] = [*shifting, stroke.keycode]
            self._injector.key(stroke.keycode, down=True)
        self._injector.state()

    def up(self, key: Key) -> None:
        """Release a key, whoever pressed it."""
        keysyms = keysyms_of(key)
        held = next((keysym for keysym in keysyms if keysym in self.held), None)
        if held is not None:
            self.release(self.held.pop(held))
        else:
            _, keymap = self._injector.state_and_keymap()
            stroke = next((keymap.strokes[keysym] for keysym in keysyms if keysym in keymap.strokes), None)
            if stroke is not None:
                self._injector.key(stroke.keycode, down=False)
        self._injector.state()

    def type(self, text: str, start: int, count: int) -> int:
        """Type at most `count` characters from `start` on, and return where the rest begins.

        That is at `start` when every spare key has a meaning that may not have been looked up yet. Modifiers are set
        aside meanwhile, those that are held and those that are locked, so that the text comes out as it is.
        """
        state, keymap = self._injector.state_and_keymap()
        end = self._bind_missing(keymap, text, start, min(start + count, len(text)))
        if end == start:
            return start
        if self.bound:
            _, keymap = self._injector.state_and_keymap()
        strokes = [keymap.characters[character] for character in text[start:end]]
        with self._without_modifiers(state, keymap):
            self._send(strokes, keymap)
        self._injector.state()
        return end

    def _send(self, strokes: Sequence[Stroke], keymap: Keymap) -> None:
        inject, current = self._injector.key, 0
        for stroke in strokes:
            if stroke.modifiers != current:
                self._shift(keymap, current & ~stroke.modifiers, down=False)
                self._shift(keymap, stroke.modifiers & ~current, down=True)
                current = stroke.modifiers
            inject(stroke.keycode, down=True)
            inject(stroke.keycode, down=False)
        self._shift(keymap, current, down=False)

    def _shift(self, keymap: Keymap, bits: int, *, down: bool) -> None:
        for bit, keycode in keymap.holders.items():
            if bits & bit:
                self._injector.key(keycode, down=down)

    def _bind_missing(self, keymap: Keymap, text: str, start: int, end: int) -> int:
        """Bind the characters that have no key, as far as there are spare ones, and return how far that is."""
        known = keymap.characters
        self._use(known[character].keycode for character in set(text[start:end]) if character in known)
        spare = self._spare(keymap)
        bound = set()
        for at in range(start, end):
            character = text[at]
            if character in known or character in bound:
                continue
            if not spare:
                if not self.lent:
                    raise ToolboxError("the keyboard layout has no spare key")
                return at
            bound.add(character)
            self._bind(spare.pop(), keysym_of(character))
        return end

    def _spare(self, keymap: Keymap) -> list[int]:
        """Return the keycodes that can be bound, the best one last."""
        return [*self._free, *(keycode for keycode in keymap.spare if keycode != _KEYCODE_OF_NOTHING)]

    def _use(self, keycodes: Iterable[int]) -> None:
        used = set(keycodes)
        self._noted -= used
        self._free -= used

    def _bind(self, keycode: int, keysym: int) -> None:
        self.bound[keycode] = keysym
        self._use([keycode])
        self._injector.bind(keycode, keysym)

    @property
    def lent(self) -> set[int]:
        """The keycodes that are bound and not held."""
        return set(self.bound).difference(*self.held.values())

    def note_bound(self) -> None:
        """Note which keys are bound, right before the focused program is asked whether it has taken its events."""
        self._noted = set(self.bound)

    def retire(self) -> None:
        """Let the noted keys be bound anew: their events have been looked up."""
        self._free |= self._noted & self.lent

    def unbind(self) -> None:
        """Take away the meaning of retired keys."""
        for keycode in self._free & self.lent:
            self._injector.bind(keycode, 0)
            del self.bound[keycode]
        self._free.clear()
        self._injector.state()

    def _stroke(self, key: Key) -> tuple[int, Stroke]:
        """Return the keysym that a key is here, and how to reach it, binding a spare key if there is none."""
        keysyms = keysyms_of(key)
        _, keymap = self._injector.state_and_keymap()
        for keysym in keysyms:
            if keysym in keymap.strokes:
                self._use([keymap.strokes[keysym].keycode])
                return keysym, keymap.strokes[keysym]
        if key.character in keymap.characters:
            return keysyms[0], keymap.characters[key.character]
        if _acts_on_keyboard(keysyms[0]):
            raise BadRequest(f'the keyboard layout has no key "{key.text}"')
        if not (spare := self._spare(keymap)):
            raise ToolboxError("the keyboard layout has no spare key")
        self._bind(spare[-1], keysyms[0])
        return keysyms[0], Stroke(spare[-1])

    def _modifier(self, keymap: Keymap, key: Key) -> int:
        for keysym in keysyms_of(key):
            if keysym in keymap.strokes:
                return keymap.strokes[keysym].keycode
        raise BadRequest(f'the keyboard layout has no key "{key.text}"')

    @contextmanager
    def _reaching(self, stroke: Stroke, *, hold: bool = False) -> Iterator[list[int]]:
        """Put the modifiers in effect that a stroke needs; `hold`: keys pressed for it stay down, and are given."""
        if not stroke.deciding:
            yield []
            return
        state, keymap = self._injector.state_and_keymap()
        lock = stroke.deciding & keymap.num_lock
        wrong_lock = bool(lock) and state.mods & lock != stroke.modifiers & lock
        missing = stroke.modifiers & ~state.mods & ~lock
        shifting = [keycode for bit, keycode in keymap.holders.items() if missing & bit]
        for keycode in shifting:
            self._injector.key(keycode, down=True)
        if wrong_lock:
            self._injector.lock(lock, stroke.modifiers & lock)
        try:
            yield shifting
        finally:
            if wrong_lock:
                self._injector.lock(lock, state.locked_mods & lock)
            if not hold:
                self.release(shifting)

    @contextmanager
    def _without_modifiers(self, state: GetState, keymap: Keymap) -> Iterator[None]:
        locked = state.locked_mods & ~keymap.num_lock
        down = []
        if state.base_mods:
            pressed = self._injector.pressed_keys()
            down = [code for code in pressed if keymap.modifiers.get(code, 0) & ~keymap.locks]
        self.release(down)
        if locked:
            self._injector.lock(locked, 0)
        try:
            yield
        finally:
            if locked:
                self._injector.lock(locked, locked)
            for keycode in down:
                self._injector.key(keycode, down=True)

    def release_all(self) -> None:
        """Release every key that is held, and take away the meanings given."""
        for keycodes in self.held.values():
            self.release(keycodes)
        self.held.clear()
        if self.bound:
            self.note_bound()
            self.retire()
            self.unbind()


def _acts_on_keyboard(keysym: int) -> bool:
    """Tell whether the server itself acts on such a key: it would lock or change the keyboard for everyone."""
    dead = 0xFE50 <= keysym <= 0xFE6F or 0xFE80 <= keysym <= 0xFE93  # noqa: PLR2004
    latin_tab = keysym in {0xFE20, 0xFE34}  # ISO_Left_Tab, ISO_Enter
    group_or_access = 0xFE00 <= keysym <= 0xFEFF and not dead and not latin_tab  # noqa: PLR2004
    modifier = 0xFFE1 <= keysym <= 0xFFEE or keysym in {0xFF7E, 0xFF7F, 0xFFFFFF}  # noqa: PLR2004
    return group_or_access or modifier
