"""Damaged and changing files, places for the copies, and limits of the process."""

from __future__ import annotations

import errno
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from image_support import EXT_SUFFIX, Isolated, extension, run_child, without_places
from memchannel import _core
from memchannel.images._elf import ElfFile, Segment


def write_at(file: Path, offset: int, data: bytes) -> None:
    with file.open("r+b") as stream:
        stream.seek(offset)
        stream.write(data)


def truncate_in_header(file: Path) -> None:
    os.truncate(file, 40)


def truncate_in_segments(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 3)


def make_text(file: Path) -> None:
    file.write_text("This is a text. " * 100)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def other_machine(file: Path) -> None:
    write_at(file, 18, struct.pack("<H", 243))


def other_class(file: Path) -> None:
    write_at(file, 4, b"\x01")


def no_dynamic_section(file: Path) -> None:
    headers, size, count = (
        struct.unpack_from(f, file.read_bytes(), o)[0] for f, o in (("<Q", 32), ("<H", 54), ("<H", 56))
    )
    for index in range(count):
        place = headers + index * size
        if struct.unpack_from("<I", file.read_bytes(), place)[0] == 2:
            write_at(file, place, struct.pack("<I", 0))


def short_program_headers(file: Path) -> None:
    write_at(file, 54, struct.pack("<H", 8))


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (truncate_in_header, "truncated: 64 bytes wanted at offset 0, the file has 40"),
    (truncate_in_segments, "truncated"),
    (empty, "truncated"),
    (make_text, "not a shared object (no ELF header)"),
    (other_machine, "a shared object for another machine (ELF class 2, machine 243)"),
    (other_class, "a shared object for another machine (ELF class 1"),
    (no_dynamic_section, "not a shared object (no dynamic section)"),
    (short_program_headers, "malformed"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
def test_damaged_files_are_refused_by_name(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    file = extension(tmp_path, "damaged")
    damage(file)
    with Isolated("damaged", path=[tmp_path]) as interpreter:
        text = interpreter.error("import damaged")
        assert "ImageError: module 'damaged' of package 'damaged' cannot be loaded" in text
        assert str(file) in text
        assert message in text


def test_every_truncation_gives_an_error_and_no_crash(tmp_path: Path) -> None:
    file = extension(tmp_path / "whole", "cut")
    run_child(
        """
        import os, shutil, sys
        from pathlib import Path
        from image_support import Isolated
        whole, folder = Path(sys.argv[1]), Path(sys.argv[2])
        cut = folder / whole.name
        size = whole.stat().st_size
        with Isolated("all", path=[folder]) as interpreter:
            for length in range(0, size, 997):
                shutil.copy(whole, cut)
                os.truncate(cut, length)
                interpreter.run('''
                    import importlib
                    importlib.invalidate_caches()
                    try:
                        import cut
                    except ImportError:
                        pass
                    else:
                        assert cut.count() == 1, "only what is not loaded may be missing"
                        import sys
                        del sys.modules["cut"], cut
                    ''')
        """,
        str(file),
        str(tmp_path),
    )


def test_file_that_changes_while_it_is_copied(tmp_path: Path) -> None:
    file = extension(tmp_path, "upgraded")
    with Isolated("upgraded", path=[tmp_path]) as interpreter:
        interpreter.run(
            f"""
            import os
            from memchannel.images import _image
            copy = os.sendfile
            def copy_while_it_changes(*arguments):
                os.utime({str(file)!r}, (1, 1))
                return copy(*arguments)
            os.sendfile = copy_while_it_changes
            """
        )
        text = interpreter.error("import upgraded")
        assert f"{file} changed on disk while it was being loaded" in text
        interpreter.run("os.sendfile = copy; import upgraded; assert upgraded.count() == 1")


def test_file_that_shrinks_while_it_is_copied(tmp_path: Path) -> None:
    file = extension(tmp_path, "shrinking")
    shutil.copy(file, tmp_path / "whole")
    with Isolated("shrinking", path=[tmp_path]) as interpreter:
        interpreter.run(
            f"""
            import os
            from memchannel.images import _image
            copy = os.sendfile
            def copy_of_less(*arguments):
                os.truncate({str(file)!r}, 4096)
                return copy(*arguments)
            os.sendfile = copy_of_less
            """
        )
        assert "changed on disk" in interpreter.error("import shrinking")
        shutil.copy(tmp_path / "whole", file)
        interpreter.run("os.sendfile = copy; import shrinking; assert shrinking.count() == 1")


def test_file_that_is_replaced_or_removed_after_it_was_loaded(tmp_path: Path) -> None:
    file = extension(tmp_path, "replaced")
    with Isolated("replaced", path=[tmp_path]) as first, Isolated("replaced", path=[tmp_path]) as second:
        first.run("import replaced; assert replaced.count() == 1")
        newer = extension(
            tmp_path / "newer", "replaced", execute='PyModule_AddIntConstant(module, "newer", 1);'
        )
        os.replace(newer, file)  # as installers do
        second.run("import replaced; assert (replaced.newer, replaced.count()) == (1, 1)")
        file.unlink()
        assert first.value("(hasattr(replaced, 'newer'), replaced.count())") == (False, 2)
        assert second.value("replaced.count()") == 2


@pytest.mark.parametrize("places", [(), ("_anonymous",)])
def test_places_for_the_copies(tmp_path: Path, places: tuple[str, ...]) -> None:
    extension(tmp_path / "package", "placed")
    (temporary := tmp_path / "temporary").mkdir()
    run_child(
        """
        import os, sys
        from pathlib import Path
        from image_support import Isolated, without_places
        places = tuple(sys.argv[2].split())
        interpreters = [Isolated("placed", path=[Path(sys.argv[1])]) for _ in range(3)]
        for interpreter in interpreters:
            with without_places(interpreter, *places):
                interpreter.run("import numpy, placed")
                assert interpreter.value("int(numpy.arange(3).sum()) + placed.count()") == 4
        assert os.listdir(os.environ["TMPDIR"]) == []
        for interpreter in interpreters:
            interpreter.destroy()
        """,
        str(tmp_path / "package"),
        " ".join(places),
        TMPDIR=str(temporary),
    )


def test_no_place_at_all_lists_what_was_tried(tmp_path: Path) -> None:
    extension(tmp_path, "homeless")
    with Isolated("homeless", path=[tmp_path]) as interpreter:
        interpreter.run(
            """
            import os
            def refuse(*arguments):
                raise PermissionError(1, "Operation not permitted")
            memfd_create, os.memfd_create = os.memfd_create, refuse
            """
        )
        with without_places(interpreter, "_temporary"):
            text = interpreter.error("import homeless")
        assert (
            "no place for an executable copy of it: anonymous memory (memfd_create): Operation not permitted"
            in text
        )
        assert "set TMPDIR" in text
        interpreter.run("import homeless; assert homeless.count() == 1  # from a temporary file")


def test_folder_for_temporary_files_mounted_noexec(tmp_path: Path) -> None:
    """In a mount namespace of its own, so that nothing outside the child changes."""
    extension(tmp_path / "package", "barred")
    (mounted := tmp_path / "mounted").mkdir()
    run_child(
        """
        import ctypes, os, sys
        from pathlib import Path
        CLONE_NEWNS, CLONE_NEWUSER, MS_NOEXEC, MS_PRIVATE, MS_REC = 0x20000, 0x10000000, 8, 1 << 18, 1 << 14
        os.unshare(CLONE_NEWNS if os.geteuid() == 0 else CLONE_NEWNS | CLONE_NEWUSER)
        libc = ctypes.CDLL(None, use_errno=True)
        for call in (
            (None, b"/", None, MS_PRIVATE | MS_REC, None),
            (b"tmpfs", sys.argv[2].encode(), b"tmpfs", MS_NOEXEC, None),
        ):
            # In a root folder that was changed into, "/" is no mount point and has no propagation to stop.
            if libc.mount(*call) != 0 and (call[1] != b"/" or ctypes.get_errno() != 22):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        from image_support import Isolated, without_places
        with Isolated("barred", path=[Path(sys.argv[1])]) as interpreter:
            with without_places(interpreter, "_anonymous"):
                text = interpreter.error("import barred")
            assert "a temporary file: it cannot be mapped executable (Operation not permitted)" in text, text
            assert "without 'noexec'" in text
            assert os.listdir(sys.argv[2]) == []
            interpreter.run("import barred; assert barred.count() == 1")
        """,
        str(tmp_path / "package"),
        str(mounted),
        TMPDIR=str(mounted),
    )


def test_kernels_without_the_flag_for_executable_memory(tmp_path: Path) -> None:
    extension(tmp_path, "older")
    for number in (errno.EINVAL, errno.EACCES):
        with Isolated("older", path=[tmp_path]) as interpreter:
            interpreter.run(
                f"""
                import os
                create = os.memfd_create
                flags_seen = []
                def without_flag(name, flags):
                    flags_seen.append(flags)
                    if flags & 0x10:
                        raise OSError({number}, os.strerror({number}))
                    return create(name, flags)
                os.memfd_create = without_flag
                import older
                assert older.count() == 1 and len(flags_seen) == 2
                """
            )


def test_unreadable_proc_falls_back(tmp_path: Path) -> None:
    extension(tmp_path, "procless")
    with Isolated("procless", path=[tmp_path]) as interpreter:
        interpreter.run(
            """
            import os
            from memchannel.images import _image
            exists = os.path.exists
            os.path.exists = lambda path: not path.startswith("/proc/") and exists(path)
            import procless
            assert procless.count() == 1
            """
        )


def test_no_descriptors_left_is_said_so(tmp_path: Path) -> None:
    extension(tmp_path, "crowded")
    run_child(
        """
        import os, resource, sys
        from pathlib import Path
        from image_support import Isolated
        with Isolated("crowded", path=[Path(sys.argv[1])]) as interpreter:
            interpreter.run("import tempfile, importlib.util; spec = importlib.util.find_spec('crowded')")
            used = max(map(int, os.listdir("/proc/self/fd")))
            open_now = len(os.listdir("/proc/self/fd")) - 1
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            loaded = 0
            for spare in range(8):
                resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + spare, hard))
                interpreter.run('''
                    try:
                        spec.loader.create_module(spec)
                    except OSError as error:
                        problem = error
                    else:
                        problem = None
                    ''')
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
                if interpreter.value("problem is None"):
                    loaded += 1
                else:
                    assert not loaded
                    text = interpreter.value("(problem.errno, str(problem))")
                    assert text[0] == 24 and "file descriptors" in text[1] and "ulimit -n" in text[1], text
                assert len(os.listdir("/proc/self/fd")) - 1 == open_now
            assert loaded
        """,
        str(tmp_path),
    )


def test_too_many_mappings_are_said_so(tmp_path: Path) -> None:
    """The number of mappings is limited for the process (vm.max_map_count)."""
    extension(tmp_path, "mapped")
    run_child(
        """
        import mmap, os, sys
        from pathlib import Path
        from image_support import Isolated
        limit = int(open("/proc/sys/vm/max_map_count").read())
        if limit > 300_000:
            sys.exit(0)  # it would take gigabytes to come near it
        with Isolated("mapped", path=[Path(sys.argv[1])]) as interpreter:
            interpreter.run("import importlib.util; spec = importlib.util.find_spec('mapped')")
            kept, failed = [], 0
            def fill(room):
                # Neighbours with unlike protection are not merged.
                while True:
                    try:
                        kept.append(mmap.mmap(-1, 4096, mmap.MAP_PRIVATE, [1, 3][len(kept) % 2]))
                    except OSError:
                        break
                del kept[-room:]
            for room in (2, 6, 14):
                fill(room)
                interpreter.run('''
                    try:
                        spec.loader.create_module(spec)
                    except (OSError, ImportError, MemoryError) as error:
                        problem = repr(error)
                    else:
                        problem = ""
                    ''')
                del kept[-200:]
                problem = interpreter.value("problem")
                failed += bool(problem)
                if problem:
                    assert "vm.max_map_count" in problem or "MemoryError" in problem, problem
            assert failed
            kept.clear()
            interpreter.run("import mapped; assert mapped.count() == 1")
        """,
        str(tmp_path),
    )


def test_images_share_the_pages_of_their_code(tmp_path: Path) -> None:
    table = "static const unsigned char table[1 << 22] = {1, 2, 3};"
    extension(
        tmp_path,
        "roomy",
        before=table,
        functions="static PyObject *get(PyObject *s, PyObject *a)"
        "{ return PyLong_FromLong(table[PyLong_AsLong(a)]); }",
        methods='{"get", get, METH_O, ""},',
    )
    with Isolated("roomy", path=[tmp_path]) as interpreter:
        interpreter.run("import roomy; assert roomy.get(2) == 3 and roomy.get((1 << 22) - 1) == 0")
        assert interpreter.value("roomy.__loader__.image.shared_bytes") >= 1 << 22
        with open("/proc/self/smaps", encoding="utf-8") as lines:
            copies = [line for line in lines if f"/memfd:roomy{EXT_SUFFIX}" in line]
        assert (
            sum(int(high, 16) - int(low, 16) for low, high in (line.split()[0].split("-") for line in copies))
            < 1 << 16
        )


@pytest.mark.parametrize("places", [(), ("_anonymous",)])
def test_copies_whose_pages_cannot_be_shared_work(tmp_path: Path, places: tuple[str, ...]) -> None:
    extension(tmp_path, "alone")
    with Isolated("alone", path=[tmp_path]) as interpreter, without_places(interpreter, *places):
        interpreter.run(
            """
            from memchannel.images import _libc
            def refuse(*arguments):
                raise PermissionError(1, "Operation not permitted")
            _libc.map_file = refuse
            import numpy, alone
            assert alone.count() == 1 and alone.__loader__.image.shared_bytes == 0
            assert numpy.linalg.inv(numpy.eye(3))[0, 0] == 1
            """
        )


def count_readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the files that are read from here on, instead of taken over."""
    parse, read = ElfFile._parse, []

    def counted(elf: ElfFile) -> dict[str, Any]:
        read.append(os.path.basename(elf.path))
        return parse(elf)

    monkeypatch.setattr(ElfFile, "_parse", counted)
    return read


def test_a_file_is_read_once_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = extension(tmp_path, "readonce")
    with Isolated("readonce", path=[tmp_path]) as interpreter:
        interpreter.run("import readonce")
    read = count_readings(monkeypatch)
    with ElfFile(os.fspath(file)) as taken_over:
        unread, references = taken_over.unread_segments(), taken_over.references(["PyModule_Create2"])
    assert read == []
    copy = tmp_path / "other" / file.name
    copy.parent.mkdir()
    shutil.copy2(file, copy)  # another file, and it has its own `$ORIGIN`
    with ElfFile(os.fspath(copy)) as anew:
        assert [vars_of(one) for one in anew.unread_segments()] == [vars_of(one) for one in unread]
        assert anew.references(["PyModule_Create2"]) == references
    assert read == [file.name]
    same = vars(anew).keys() & vars(taken_over).keys() - {"path", "segments", "stamp", "fd", "_identity"}
    assert {name: vars(anew)[name] for name in same} == {name: vars(taken_over)[name] for name in same}


def vars_of(segment: Segment) -> dict[str, object]:
    return {name: getattr(segment, name) for name in Segment.__slots__}


def rewrite(file: Path, before: os.stat_result) -> None:
    """Write a file in place, with the size and the time of the last change that it had."""
    content = file.read_bytes()
    while file.stat().st_ctime_ns == before.st_ctime_ns:  # file systems tell times by the tick
        file.write_bytes(content)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_file_that_was_written_to_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = extension(tmp_path, "rewritten")
    read = count_readings(monkeypatch)
    for expected in (1, 1):
        ElfFile(os.fspath(file)).close()
        assert len(read) == expected
    before = file.stat()
    soname = ElfFile(os.fspath(file)).soname
    rewrite(file, before)
    with ElfFile(os.fspath(file)) as elf:
        assert elf.soname == soname
    assert len(read) == 2


def test_what_is_read_of_a_file_while_it_changes_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = extension(tmp_path, "changing")
    find, found = ElfFile._find_references, []

    def counted(elf: ElfFile, names: list[str]) -> list[tuple[str, int]]:
        found.append(names)
        return find(elf, names)

    monkeypatch.setattr(ElfFile, "_find_references", counted)
    with ElfFile(os.fspath(file)) as elf:
        rewrite(file, file.stat())
        elf.references(["PyModule_Create2"])
    for _ in range(2):
        with ElfFile(os.fspath(file)) as elf:
            elf.references(["PyModule_Create2"])
    assert len(found) == 2  # by who saw the change, and by the first one after it


def test_what_is_noted_first_stays() -> None:
    name = f"a note of {os.urandom(8).hex()} \N{SNOWMAN}"
    assert _core._noted(name) is None
    _core._note(name, b"one\0two")
    _core._note(name, b"other")
    assert _core._noted(name) == b"one\0two"
    with Isolated() as interpreter:
        interpreter.run(f"from memchannel import _core\nassert _core._noted({name!r}) == b'one\\0two'")
    for wrong in [(1, b""), ("a", "b"), ("\ud800", b"")]:
        with pytest.raises((TypeError, UnicodeEncodeError)):
            _core._note(*wrong)  # type: ignore[arg-type]
