"""The demo's verses from a server of our own, with small files of our own."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from glotprompt.data.datasets import github
from glotprompt.data.datasets.bitext import BIBLE_VERSES
from glotprompt.data.datasets.github import Remote, verse_folder
from glotprompt.data.datasets.topics import TAXI1500
from glotprompt.errors import DataError

ENGLISH = """<cesDoc><text>
<seg id="b.GEN.1.1" type="verse"> not of the New Testament </seg>
<seg id="b.1CO.2.10" type="verse">
    tenth   of the
    chapter
</seg>
<seg id="b.1CO.2.9" type="verse">ninth</seg>
<seg id="b.REV.1.1" type="verse">in English alone</seg>
<seg id="b.MAT.1.1" type="verse">first</seg>
<seg id="b.MAT.1.2" type="verse">second</seg>
</text></cesDoc>"""
OTHER = """<cesDoc><text>
<seg id="b.GEN.1.1" type="verse">cha nel</seg>
<seg id="b.MAT.1.1" type="verse">yn "chied" ché</seg>
<seg id="b.MAT.1.2" type="verse">  </seg>
<seg id="b.1CO.2.9" type="verse">yn nuyoo</seg>
<seg id="b.1CO.2.10" type="verse">yn jeihoo</seg>
</text></cesDoc>"""
FILES = {
    "train": "43001002\tSin\tx\n43001001\tFaith\tx\n",
    "dev": "43001003\tSin\tx\n",
    "test": "43001004\tFaith\tx\n",
    "eng": "".join(f"4300100{n}\tSin\ttext {n}\n" for n in (1, 3, 2, 4)),
    "glv": "".join(f"4300100{n}\tSin\tteks ç {n}\n" for n in (1, 3, 2, 4)),
    "English's": ENGLISH,
    "Manx": OTHER,
}
LAYOUT = {
    "taxi1500/train/eng.tsv": "43001001\tSin\ttext 1\n43001002\tSin\ttext 2\n",
    "taxi1500/dev/eng.tsv": "43001003\tSin\ttext 3\n",
    "taxi1500/test/eng.tsv": "43001004\tSin\ttext 4\n",
    "taxi1500/train/glv.tsv": "43001001\tSin\tteks ç 1\n43001002\tSin\tteks ç 2\n",
    "taxi1500/dev/glv.tsv": "43001003\tSin\tteks ç 3\n",
    "taxi1500/test/glv.tsv": "43001004\tSin\tteks ç 4\n",
    "parallel/bible/eng-glv.tsv": '40.1.1\tfirst\tyn "chied" ché\n46.2.9\tninth\tyn nuyoo\n'
    "46.2.10\ttenth of the chapter\tyn jeihoo\n",
}


class Site(ThreadingHTTPServer):
    """Serves `files`, and breaks off where it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"/o/r/c/" + name.replace("'", "%27"): text.encode() for name, text in FILES.items()}
        self.ranges, self.most = True, 10**6
        self.asked: list[tuple[str, str | None]] = []

    def file(self, name: str) -> str:
        return next(path for path in self.files if path.endswith(name))


class Handler(BaseHTTPRequestHandler):
    server: Site  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Range"]))
        content = self.server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        start = 0
        if self.server.ranges and self.headers["Range"]:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + self.server.most])
        return None

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Generator[Site]:
    def remote(name: str) -> Remote:
        content = FILES[name].encode()
        return Remote("o/r", "c", name, hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest(), 2_000)

    monkeypatch.setattr(github, "SPLITS", {name: remote(name) for name in ("train", "dev", "test")})
    monkeypatch.setattr(github, "TOPICS", {name: remote(name) for name in ("eng", "glv")})
    monkeypatch.setattr(github, "BIBLES", {"eng": remote("English's"), "glv": remote("Manx")})
    monkeypatch.setenv("no_proxy", "*")
    with Site() as server:
        monkeypatch.setattr(github, "SERVER", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def files_of(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes().decode() for path in paths}


def test_the_layout_is_made_once(site: Site, tmp_path: Path) -> None:
    told: list[str] = []
    folder = verse_folder("glv", tmp_path / "data", told.append)
    assert files_of(folder) == LAYOUT
    assert told[0] == f"no data folder given: fetching 0.0 MB from https://github.com/o/r into {folder}"
    assert told[1:] == [f"file {n} of 7: {name} (2 kB)" for n, name in enumerate(FILES, 1)]
    assert [pair.id for pair in BIBLE_VERSES.pairs("glv", "train", folder)] == ["40.1.1", "46.2.9", "46.2.10"]
    assert [one.id for one in TAXI1500.examples("glv", "train", folder)] == ["43001001", "43001002"]
    assert verse_folder("glv", folder, told.append) == folder
    assert (len(told), len(site.asked)) == (8, 7)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_download_goes_on(site: Site, tmp_path: Path, ranges: bool) -> None:
    site.ranges, site.most = ranges, 100
    with pytest.raises(DataError, match=r"English%27s: cannot be fetched \(.* cut .*\)\. Try again \(what came"):
        verse_folder("glv", tmp_path, lambda _: None)
    (part,) = tmp_path.rglob("*.part")
    assert part.read_bytes() == ENGLISH.encode()[:100]
    site.asked, site.most = [], 10**6
    assert files_of(verse_folder("glv", tmp_path, lambda _: None)) == LAYOUT
    assert site.asked[0] == (site.file("/English%27s"), "bytes=100-")
    assert [path for path, _ in site.asked] == [site.file(f"/{name}") for name in ("English%27s", "Manx")]


@pytest.mark.parametrize("kept", ["", "x"])
def test_a_part_with_all_of_the_file_is_looked_at(site: Site, tmp_path: Path, kept: str) -> None:
    part = tmp_path / "downloads" / f"{github.SPLITS['train'].blob}.part"
    part.parent.mkdir()
    part.write_text(FILES["train"] + kept, newline="")
    if kept:
        with pytest.raises(DataError, match=r"/train: what came is not the file of that commit .* deleted\. Try again"):
            verse_folder("glv", tmp_path, lambda _: None)
        assert not part.exists()
    assert files_of(verse_folder("glv", tmp_path, lambda _: None)) == LAYOUT


def test_other_content_is_deleted(site: Site, tmp_path: Path) -> None:
    site.files[site.file("/Manx")] = b"a page about something else"
    with pytest.raises(DataError, match=r"/Manx: what came is not the file .* parallel/bible/ by --data-dir\.$"):
        verse_folder("glv", tmp_path, lambda _: None)
    assert not list(tmp_path.rglob("*.part"))


def test_no_file_and_no_network(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del site.files[site.file("/dev")]
    with pytest.raises(DataError, match=r"/dev: cannot be fetched \(HTTP Error 404: Not Found\)\. Try again"):
        verse_folder("glv", tmp_path, lambda _: None)
    monkeypatch.setattr(github, "SERVER", "http://127.0.0.1:1")
    with pytest.raises(DataError, match=r"/dev: cannot be fetched \(\[Errno \d+\] Connection refused\)\. Try again"):
        verse_folder("glv", tmp_path, lambda _: None)


def test_languages_without_an_edition(site: Site, tmp_path: Path) -> None:
    for code in ("eng", "xyz"):
        with pytest.raises(DataError, match=f"no edition of '{code}' .* only of glv.* --data-dir takes"):
            verse_folder(code, tmp_path, lambda _: None)
    assert not site.asked
