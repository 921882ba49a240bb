"""Recordings of the screen: ffmpeg films it, files in one directory keep it."""
