"""The log of a packed element: what was appended is read, whatever a crash did to the end or a file server to the middle."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.node.shared.element_frames import ElementFrames, Output
from hpc_agent.node.shared.element_log import ElementLog, Ended, sound_lines, whole


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
    frames = ElementFrames(written(tmp_path / "0.rec", 6))
    assert [len(frames.ended(task)) for task in range(7)] == [1, 1, 1, 1, 1, 1, 0]
    start, ended = frames.ended(4)[0]
    assert (start["job"], start["host"]) == ("17", "node1")
    assert ended == Ended(4, True, 1.0, "e", 0, 40, 10, b'{"x":4}')
    assert frames.output(4) == Output(0, 40, 10)
    assert frames.output(6) is None
    assert frames.begun(4)[0].offset == 40


def test_a_new_start_belongs_to_the_frames_after_it(tmp_path: Path) -> None:
    written(tmp_path / "0.rec", 2)
    log = ElementLog(str(tmp_path / "0.rec"))
    log.start("18", "node2")
    log.begin(0, 0, 20)
    log.close()
    frames = ElementFrames((tmp_path / "0.rec").read_bytes())
    assert len(frames.begun(0)) == 2
    assert frames.ended(0)[0][0]["job"] == "17"
    assert frames.output(0) == Output(0, 20, None), "it runs again"


def test_appending_after_a_torn_line_loses_only_that_line(tmp_path: Path) -> None:
    path = tmp_path / "0.rec"
    whole_data = written(path, 3)
    path.write_bytes(whole_data[:-7])
    log = ElementLog(str(path))
    log.begin(9, 0, 31)
    log.close()
    frames = ElementFrames(path.read_bytes())
    assert frames.output(9) == Output(0, 31, None)
    assert not frames.ended(2)
    assert frames.output(2) == Output(0, 20, 11), "what the slot printed next is of the task that it began next"


def test_frames_that_were_written_twice_count_once(tmp_path: Path) -> None:
    """A disk that failed to keep them gets them again."""
    data = written(tmp_path / "0.rec", 3)
    frames = ElementFrames(data + data)
    assert [len(frames.ended(task)) + len(frames.begun(task)) for task in range(3)] == [2, 2, 2]
    assert frames.output(1) == Output(0, 10, 10)
    assert frames.ended(2)[0][0]["host"] == "node1"


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
