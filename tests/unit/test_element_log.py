"""The log of a packed element: what was appended is read, whatever a crash did to the end or a file server to the middle."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.node.shared.element_log import ElementLog, Ended, frames_by_task, sound_lines, whole


def written(path: Path, tasks: int) -> bytes:
    log = ElementLog(str(path))
    log.start("17", "node1")
    for task in range(tasks):
        log.begin(task, 0, task * 10)
        log.record(
            Ended(task, task % 3 > 0, 0.25 * task, "e" if task == 4 else "", 0, task * 10, 10, b'{"x":%d}' % task)
        )
    log.close()
    return path.read_bytes()


def test_what_was_appended_is_read(tmp_path: Path) -> None:
    frames = frames_by_task(written(tmp_path / "0.rec", 6))
    assert sorted(frames) == list(range(6))
    start, ended = frames[4].ended[0]
    assert (start["job"], start["host"]) == ("17", "node1")
    assert ended == Ended(4, True, 1.0, "e", 0, 40, 10, b'{"x":4}')
    assert not frames[4].is_open
    assert frames[4].begun[0].offset == 40


def test_a_new_start_belongs_to_the_frames_after_it(tmp_path: Path) -> None:
    written(tmp_path / "0.rec", 2)
    log = ElementLog(str(tmp_path / "0.rec"))
    log.start("18", "node2")
    log.begin(0, 0, 20)
    log.close()
    frames = frames_by_task((tmp_path / "0.rec").read_bytes())
    assert frames[0].is_open
    assert len(frames[0].begun) == 2
    assert frames[0].ended[0][0]["job"] == "17"


def test_appending_after_a_torn_line_loses_only_that_line(tmp_path: Path) -> None:
    path = tmp_path / "0.rec"
    whole_data = written(path, 3)
    path.write_bytes(whole_data[:-7])
    log = ElementLog(str(path))
    log.begin(9, 0, 0)
    log.close()
    frames = frames_by_task(path.read_bytes())
    assert frames[9].is_open
    assert frames[2].is_open
    assert not frames[2].ended


@given(at=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_any_cut_gives_the_frames_before_it_and_any_damage_loses_only_its_lines(at: int, flip: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = written(Path(folder) / "0.rec", 5)
    lines = list(sound_lines(log))
    at %= len(log)
    left = list(sound_lines(log[:at]))
    assert left == lines[: len(left)]
    assert len(left) - log[:at].count(b"\n") in (0, 1)  # 1: the cut took only the newline of a frame
    assert whole(log[:at]) == log.rfind(b"\n", 0, at) + 1
    damaged = list(sound_lines(log[:at] + bytes([log[at] ^ flip]) + log[at + 1 :]))
    assert set(damaged) <= set(lines)  # a capital digit of a checksum is the same number
    assert len(damaged) >= len(lines) - 2
