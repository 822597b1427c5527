"""Classifiers on disk, thousands of them: a file is read when it is asked for, what was read last is kept within a
budget of bytes, and files that come, change or go are taken up while requests run.

A file is replaced by renaming another onto it, as everything that glotprompt saves is. It is read into memory whole,
never mapped, so that nobody who writes into it changes what was read. A version in memory goes on for those who still
ask for it; one that is not, and whose file has changed, is refused until the next look at the disk. So a request sees
the old classifier or the new one, never a mixture.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from glotprompt.errors import ArtifactError, ConfigError, UserError, in_a_line, nearest, visible
from glotprompt.inference.classifier import PromptClassifier
from glotprompt.inference.served import Decoded, Served
from glotprompt.model.backbone import Backbone
from glotprompt.serve.card import Card
from glotprompt.storage import artifact
from glotprompt.storage.metadata import check_metadata, check_values, describe

KIND = "classifier"
KINDS = (KIND, "language prompt", "language module", "checkpoint")
"""Kinds of files that a folder may have; all but the first are skipped."""
PATTERN = "*.safetensors"
MOST_READS = 3
"""Reads per scan of a file that is replaced each time while it is read."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Stamp:
    """File attributes that change when a file is replaced or written."""

    inode: int
    modified: int
    """Nanoseconds since 1970."""
    size: int

    @classmethod
    def of(cls, path: Path) -> _Stamp | None:
        """The stamp of a file; None: there is no such file. Raises `OSError` where the disk cannot be read."""
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return cls(status.st_ino, status.st_mtime_ns, status.st_size)


_NO_FILE = _Stamp(0, 0, 0)
"""A stamp that equals no file's."""


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, metadata = artifact.read_copy(path, KIND)
    check_metadata(path, metadata)
    check_values(path, tensors)
    return tensors, metadata


@dataclass(frozen=True, eq=False)
class _Version:
    """One version of a classifier's file."""

    path: Path
    stamp: _Stamp

    def decode(self, backbone: Backbone, tokenizing: threading.RLock) -> Decoded:
        """Read and decode its tensors from the disk. Raises `ArtifactError` where the file has changed since."""
        tensors, metadata = _read(self.path)
        try:
            changed = _Stamp.of(self.path) != self.stamp
        except OSError:
            changed = False  # it could be read a moment ago
        if changed:
            raise ArtifactError(f"{self.path} was changed since the last look at it; ask again in a moment")
        with tokenizing:
            classifier = PromptClassifier.of(tensors, metadata, backbone, self.path)
        return Decoded.of(classifier, backbone)


@dataclass(frozen=True)
class _Entry:
    """The state of a path: the version that is served, and why that is not the one on the disk, if it is not."""

    stamp: _Stamp
    """Stamp of the file at the last scan."""
    served: Served | None = None
    card: Card | None = None
    version: _Version | None = None
    error: str | None = None


@dataclass(frozen=True)
class _State:
    """The state of all files, replaced as a whole, so that readers need no lock."""

    records: Mapping[Path, _Entry] = field(default_factory=dict[Path, _Entry])
    errors: Mapping[str, str] = field(default_factory=dict[str, str])
    served: Mapping[str, Served] = field(default_factory=dict[str, Served])
    cards: Mapping[str, Card] = field(default_factory=dict[str, Card])


class DecodedCache:
    """A cache that drops the least recently used entries first. Threads may share it."""

    def __init__(self, byte_budget: int) -> None:
        """Entries larger than the whole budget are decoded every time."""
        self._budget = byte_budget
        self._entries: OrderedDict[Hashable, Decoded] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()

    @property
    def num_bytes(self) -> int:
        return self._num_bytes

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def get(self, key: Hashable, decode: Callable[[], Decoded]) -> Decoded:
        """The entry under `key`, decoded if it is not there. Two threads may decode the same entry at the same time,
        which costs less than waiting for one that decodes another."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        decoded = decode()
        with self._lock:
            if key not in self._entries and decoded.num_bytes <= self._budget:
                self._entries[key] = decoded
                self._num_bytes += decoded.num_bytes
                while self._num_bytes > self._budget:
                    _, oldest = self._entries.popitem(last=False)
                    self._num_bytes -= oldest.num_bytes
        return decoded


class Registry:
    """The classifiers in folders and files, for one backbone. A classifier is called as its file without the ending.
    Threads may share it."""

    def __init__(
        self, places: str | Path | Sequence[str | Path], backbone: Backbone, byte_budget: int = 256 * 2**20
    ) -> None:
        """Look through folders (not those inside them) and files, each read once against its digest. Broken files are
        kept out and listed by `errors`. `byte_budget` bounds the decoded classifiers that are kept in memory. Raises
        `ArtifactError` for a place that does not exist."""
        self.places = tuple(map(Path, [places] if isinstance(places, str | Path) else places))
        for place in self.places:
            if not place.exists():
                raise ArtifactError(f"{place} does not exist; give saved classifiers, or folders that hold some")
        self._folders = {place for place in self.places if place.is_dir()}
        self._backbone = backbone
        self._cache = DecodedCache(byte_budget)
        self._state = _State()
        self._reloading = threading.Lock()
        self.tokenizing = threading.RLock()
        """Held while the backbone's tokenizer reads: it keeps the truncation of its last call, so that another thread's
        would cut a text elsewhere, or not at all."""
        self.reload()

    def snapshot(self) -> Mapping[str, Served]:
        """All classifiers by name; later changes do not affect it."""
        return self._state.served

    def names(self) -> list[str]:
        return list(self._state.served)

    def cards(self) -> list[Card]:
        """The cards of all classifiers, in the order of their names."""
        return list(self._state.cards.values())

    def errors(self) -> dict[str, str]:
        """Errors by path, in one line each: why the file on the disk is not served. An earlier version that could be
        read is served as long as it is in memory."""
        return dict(self._state.errors)

    def find(self, language: str, task: str) -> str:
        """The name of the classifier for a language and a task. Raises `ConfigError` where there is none, or more than
        one."""
        cards = self.cards()
        names = [card.name for card in cards if (card.language, card.task) == (language, task)]
        if len(names) == 1:
            return names[0]
        if names:
            raise ConfigError(f"{language!r} has {len(names)} classifiers for {task!r}; name one: {', '.join(names)}")
        tasks = {card.task for card in cards}
        hint = nearest(language, {card.language for card in cards if card.task == task}) or nearest(task, tasks)
        raise ConfigError(f"no classifier for language {language!r} and task {task!r}.{hint}")

    @property
    def cached_bytes(self) -> int:
        """Bytes of the decoded classifiers in memory."""
        return self._cache.num_bytes

    def reload(self) -> None:
        """Scan for files that were added, changed or removed since the last scan. Meanwhile requests use the previous
        state; they see all changes at once."""
        with self._reloading:
            before = self._state
            after = _state_of(self._looked_through(before.records))
            for place, error in after.errors.items():
                if before.errors.get(place) != error:
                    _log.warning("%s", error)
            self._state = after

    @contextmanager
    def watched(self, seconds: float = 2.0) -> Generator[None]:
        """Scan the disk every few seconds in a thread, inside this block."""
        stop = threading.Event()

        def watch() -> None:
            last = ""
            while not stop.wait(seconds):
                trouble = ""
                try:
                    self.reload()
                except OSError as error:  # a disk in trouble, often one of the network: the next look may succeed
                    trouble = f"no look at the disk: {error}; what was known is served"
                if trouble != last:
                    _log.warning("%s", trouble or "the disk can be looked at again")
                last = trouble

        thread = threading.Thread(target=watch, name="classifier registry", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _looked_through(self, before: Mapping[Path, _Entry]) -> dict[Path, _Entry]:
        after: dict[Path, _Entry] = {}
        for path in self._paths(before):
            record = before.get(path)
            try:
                stamp = _Stamp.of(path)
            except OSError:
                if record is not None:
                    after[path] = record  # of this file nothing is known now; the others are looked at
                continue
            if stamp is None and path.parent in self._folders and not path.parent.exists() and record is not None:
                after[path] = record  # a disk that is away for a moment takes nothing with it
            elif stamp is not None:
                if record is None or record.stamp != stamp:
                    record = self._take_up(path, stamp, record)
                if record is not None and record.error is not None and record.version not in self._cache:
                    record = _Entry(record.stamp, error=record.error)  # the earlier version is nowhere any more
                if record is not None:
                    after[path] = record
        return after

    def _paths(self, before: Mapping[Path, _Entry]) -> list[Path]:
        paths: list[Path] = []
        for place in self.places:
            if place not in self._folders:
                paths.append(place)
                continue
            try:  # glob would take a folder that cannot be read for an empty one
                files = sorted(path for path in place.iterdir() if path.match(PATTERN))
            except FileNotFoundError:
                paths += [path for path in before if path.parent == place]
            else:
                # Hidden files are what is being written.
                paths += [path for path in files if not path.name.startswith(".")]
        return list(dict.fromkeys(paths))

    def _take_up(self, path: Path, stamp: _Stamp, before: _Entry | None) -> _Entry | None:
        """Open a new version of a file, and no other one than the stamp is of. None: it went meanwhile."""
        latest = stamp
        for _ in range(MOST_READS):
            record = self._read(path, latest, before)
            try:
                now = _Stamp.of(path)
            except OSError:
                now = None
            if now == latest:
                return record
            if now is None:
                return before  # the next look finds out what became of it
            latest = now
        return _keep(before, stamp, f"{path} changed whenever it was read; the next look reads it again")

    def _read(self, path: Path, stamp: _Stamp, before: _Entry | None) -> _Entry:
        """Open a version of a file; where that fails, keep the version before, if there still is one."""
        try:
            if path.parent in self._folders and describe(path, KINDS)["kind"] != KIND:
                return _Entry(stamp)
            if visible(path.stem) != path.stem:
                raise ArtifactError(f"{path} has a name that is not UTF-8, or with control characters; rename it")
            tensors, metadata = _read(path)
            version = _Version(path, stamp)
            decode = partial(version.decode, self._backbone, self.tokenizing)
            with self.tokenizing:  # of label words
                served = Served.of(path.stem, metadata, self._backbone, partial(self._cache.get, version, decode))
                classifier = PromptClassifier.of(tensors, metadata, self._backbone, path)
            self._cache.get(version, lambda: Decoded.of(classifier, self._backbone))
            card = Card.of(served, metadata, classifier.report, stamp.size, stamp.modified / 1e9).checked()
        except Exception as error:  # a broken file must not affect the others
            reason = f"{path} cannot be used: {in_a_line(repr(error))}"
            reason = str(error) if isinstance(error, UserError) else reason
            entry = _keep(before, stamp, reason)
            # Permissions and disks may be fixed without a change of the file, so the next scan tries again.
            return replace(entry, stamp=_NO_FILE) if isinstance(error.__cause__, OSError) else entry
        return _Entry(stamp, served, card, version)


def _keep(before: _Entry | None, stamp: _Stamp, reason: str) -> _Entry:
    """The previous version, with the reason why the one on the disk cannot be used."""
    if before is None:
        return _Entry(stamp, error=reason)
    return _Entry(stamp, before.served, before.card, before.version, reason)


def _state_of(records: dict[Path, _Entry]) -> _State:
    """The state by name, with errors; of files of the same name the first is served."""
    # Names of files and what they say of themselves may hold what no answer can be written with.
    errors = {visible(str(path)): visible(record.error) for path, record in records.items() if record.error is not None}
    paths: dict[str, Path] = {}
    for path, record in records.items():
        if record.served is not None and paths.setdefault(path.stem, path) != path:
            other = str(paths[path.stem].parent)
            message = f"{path} has the name of a file in {other!r}, which is served; give one of them another"
            errors[visible(str(path))] = visible(message)
    served, cards = dict[str, Served](), dict[str, Card]()
    for name in sorted(paths):
        record = records[paths[name]]
        assert record.served is not None
        assert record.card is not None
        served[name], cards[name] = record.served, record.card
    return _State(records, errors, MappingProxyType(served), cards)
