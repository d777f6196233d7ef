"""A disk that loses power: what a folder may hold after a cut, of what a command wrote and synced until then.

A command runs once for real while its writes are recorded. After that a cut is chosen anywhere in the record, and a
folder is made as a disk could show it then:

- the bytes of a file are those of its last sync, those of any later moment, or a torn or empty form of them;
- a name in a folder is what it was at the folder's last sync or at any later moment, each name for itself, so that
  renames come without the bytes that they name, and in any order.

That is harsher than any one file system, and all that POSIX promises.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

ROOT = 0
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "shutil.copyfile")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# How a cut chooses: only what was synced; all names and no bytes; everything; everything but removals; each thing its
# first or last form by lot; each thing any form by lot.
TEMPERS = ("synced", "names", "all", "unremoved", "unremoved", "ends", "ends", "lot", "lot")


@dataclass(frozen=True)
class Tree:
    """A folder at one moment, by the identity of files and folders.

    Attributes:
        files: identity to bytes.
        folders: identity to names, each with the identity of what it names.
    """

    files: dict[int, bytes]
    folders: dict[int, dict[str, int]]


@dataclass
class Record:
    """What a command did to a folder.

    Attributes:
        trees: the folder at each moment at which it had changed; the first is from before.
        events: in order: the number of a tree that came to be, the identity of what was synced, or a word of the test.
    """

    trees: list[Tree] = field(default_factory=list)
    events: list[tuple[str, Any]] = field(default_factory=list)

    def words(self, cut: int) -> list[Any]:
        """What the test had said until a cut."""
        return [value for kind, value in self.events[:cut] if kind == "word"]


class Recorder:
    """Records the changes of a folder, by Python and by libraries, as long as it is entered.

    Args:
        root: the folder.
        loses: of what a sync is to be without effect: `files`, `folders`, both, or nothing.
    """

    def __init__(self, root: Path, loses: Sequence[str] = ()) -> None:
        self.root, self.loses, self.record = root, loses, Record()
        self._identities: dict[int, int] = {}
        self._next = ROOT
        self._looking = False

    def __enter__(self) -> Recorder:
        assert not _ACTIVE
        self._look()
        self._fsync, os.fsync = os.fsync, cast(Any, self._synced)
        _ACTIVE.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _ACTIVE.remove(self)
        os.fsync = self._fsync
        self._look()

    def say(self, word: Any) -> None:
        """Note that something happened, as in "the command returned"."""
        self._look()
        self.record.events.append(("word", word))

    def before(self, event: str, arguments: tuple[Any, ...]) -> None:
        """What Python is about to do; what was done before it is seen now."""
        if not self._looking and (event in CHANGES or (event == "open" and (arguments[2] or 0) & WRITING)):
            self._look()

    def _synced(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self._look()
        identity = self._identities.get(status.st_ino)
        kind = "folders" if identity in self.record.trees[-1].folders else "files"
        if identity is not None and kind not in self.loses:
            self.record.events.append(("sync", identity))

    def _look(self) -> None:
        self._looking = True
        try:
            before, self._identities, seen = self._identities, {}, Tree({}, {})
            self._enter(self.root, self._identity(self.root.stat().st_ino, before), seen, before)
        finally:
            self._looking = False
        if not self.record.trees or seen != self.record.trees[-1]:
            self.record.trees.append(seen)
            self.record.events.append(("tree", len(self.record.trees) - 1))

    def _enter(self, folder: Path, identity: int, seen: Tree, before: dict[int, int]) -> None:
        names = seen.folders[identity] = {}
        for item in os.scandir(folder):
            with contextlib.suppress(FileNotFoundError):
                names[item.name] = self._identity(item.inode(), before)
                if item.is_dir(follow_symlinks=False):
                    self._enter(Path(item.path), names[item.name], seen, before)
                else:
                    seen.files[names[item.name]] = Path(item.path).read_bytes()

    def _identity(self, inode: int, before: dict[int, int]) -> int:
        """A number that an inode keeps as long as it is there; the file system gives a freed one to another file."""
        if inode not in self._identities:
            self._identities[inode] = before[inode] if inode in before else self._new()
        return self._identities[inode]

    def _new(self) -> int:
        self._next += 1
        return self._next - 1


_ACTIVE: list[Recorder] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    for recorder in _ACTIVE:
        recorder.before(event, arguments)


sys.addaudithook(_audit)


# ------------------------------------------------------------------------------------------------- what a cut may leave


def folder_after(record: Record, cut: int, generator: random.Random, target: Path) -> None:
    """Write a folder as a disk may hold it.

    Args:
        record: of the command.
        cut: so many events had happened.
        generator: chooses what survived.
        target: the folder, not there yet.
    """
    _Disk(record, cut, generator).write(ROOT, target)


class _Disk:
    def __init__(self, record: Record, cut: int, generator: random.Random) -> None:
        self.trees: list[Tree] = []
        self.synced: dict[int, int] = {}  # identity to the number of the tree that it had then
        for kind, value in record.events[:cut]:
            if kind == "tree":
                self.trees.append(record.trees[value])
            elif kind == "sync":
                self.synced[value] = len(self.trees) - 1
        self.generator, self.temper = generator, generator.choice(TEMPERS)
        self.bytes: dict[int, bytes] = {}  # a file has the same under each of its names

    def write(self, identity: int, target: Path) -> None:
        target.mkdir()
        for name, inner in self._names(identity).items():
            if any(inner in tree.folders for tree in self.trees):
                self.write(inner, target / name)
            else:
                (target / name).write_bytes(self._content(inner))

    def _names(self, identity: int) -> dict[str, int]:
        moments = [tree.folders[identity] for tree in self._since(identity) if identity in tree.folders]
        if self._is_new(identity):
            moments.insert(0, {})
        chosen: dict[str, int] = {}
        for name in sorted({name for moment in moments for name in moment}):
            inner = self._choose([moment.get(name) for moment in moments], newest=self.temper == "names")
            if inner is not None:
                chosen[name] = inner
        return chosen

    def _content(self, identity: int) -> bytes:
        if identity not in self.bytes:
            forms = [tree.files[identity] for tree in self._since(identity) if identity in tree.files]
            forms = [form for at, form in enumerate(forms) if at == 0 or form != forms[at - 1]]
            if len(forms) > 1 or self._is_new(identity):
                forms = [b"" if self._is_new(identity) else forms[0], *_torn(forms[-1], self.generator), *forms]
            self.bytes[identity] = self._choose(forms, newest=False)
        return self.bytes[identity]

    def _choose(self, options: list[Any], newest: bool) -> Any:
        """One of the forms of a thing, from the synced one to the newest."""
        if self.temper in ("lot", "ends"):
            return self.generator.choice(options if self.temper == "lot" else (options[0], options[-1]))
        if self.temper == "unremoved":
            return next((option for option in reversed(options) if option is not None), None)
        return options[-1 if newest or self.temper == "all" else 0]

    def _since(self, identity: int) -> list[Tree]:
        return self.trees[self.synced.get(identity, 0) :]

    def _is_new(self, identity: int) -> bool:
        """Whether the thing came with the command and no sync has reached it."""
        first = self.trees[0]
        return identity not in self.synced and identity not in first.files and identity not in first.folders


def _torn(content: bytes, generator: random.Random) -> list[bytes]:
    """A file that ends early, and one whose end is zeros."""
    length = generator.randrange(len(content) + 1)
    return [content[:length], content[:length] + bytes(len(content) - length)]


def cuts(record: Record, count: int, seed: int) -> Iterator[tuple[int, random.Random]]:
    """Places of cuts, each with what chooses its survivors: half anywhere, a quarter just before something is synced,
    where most is at stake, and a quarter after the command's last act.
    """
    generator = random.Random(seed)
    before_sync = [number for number, (kind, _) in enumerate(record.events) if kind == "sync"] or [1]
    for number in range(count):
        cut = len(record.events) if number % 4 == 3 else generator.randint(1, len(record.events))
        if number % 4 == 1:
            cut = generator.choice(before_sync)
        yield cut, random.Random(generator.random())


def recorded(root: Path, command: Callable[[Recorder], object], loses: Sequence[str] = ()) -> Record:
    """What a command does to a folder; its last word says that it returned."""
    with Recorder(root, loses) as recorder:
        command(recorder)
        recorder.say("returned")
    return recorder.record
