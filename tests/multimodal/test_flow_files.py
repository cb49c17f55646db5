"""Flow in files comes back to the last bit, foreign readers agree, damaged files are refused; the field's errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets._optical_flow import _read_16bits_png_with_flow_and_valid_mask, _read_flo, _read_pfm

from multimodal.common.errors import DataError
from multimodal.flow.files import read_flow, write_flow
from multimodal.flow.measures import flow_errors


def a_flow(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A flow within KITTI's range, with some of it unknown."""
    rng = np.random.default_rng(seed)
    flow = rng.normal(0, 40, (2, height, width)).astype(np.float32)
    return flow.clip(-500, 500), rng.random((height, width)) < 0.8


@pytest.mark.parametrize("ending", [".flo", ".pfm", ".png"])
@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 9), width=st.integers(1, 9))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, ending: str, seed: int, height: int, width: int) -> None:
    flow, known = a_flow(seed, height, width)
    if ending == ".png":
        flow = np.rint(flow * 64) / np.float32(64) + np.float32(0)  # what the format holds, without a negative zero
    file = tmp_path_factory.mktemp("flow") / f"a{ending}"
    write_flow(file, flow, known)
    back, back_known = read_flow(file)
    assert (back_known == known).all()
    assert back.tobytes() == np.where(known, flow, np.float32(0)).tobytes()
    again = file.with_stem("b")
    write_flow(again, back, back_known)
    assert again.read_bytes() == file.read_bytes()


def test_torchvision_reads_the_same(tmp_path: Path) -> None:
    flow, known = a_flow(0, 7, 5)
    write_flow(tmp_path / "a.flo", flow)
    assert (_read_flo(str(tmp_path / "a.flo")) == flow).all()
    write_flow(tmp_path / "a.pfm", flow)
    assert (_read_pfm(str(tmp_path / "a.pfm")) == flow).all()
    write_flow(tmp_path / "a.png", flow, known)
    theirs, theirs_known = _read_16bits_png_with_flow_and_valid_mask(str(tmp_path / "a.png"))
    ours, _ = read_flow(tmp_path / "a.png")
    assert (torch.as_tensor(theirs_known).bool().numpy() == known).all()
    assert (np.asarray(theirs)[:, known] == ours[:, known]).all()
    assert np.abs(ours - flow)[:, known].max() <= 1 / 128


def test_big_endian_pfm(tmp_path: Path) -> None:
    flow, _ = a_flow(1, 3, 4)
    pixels = np.zeros((3, 4, 3), ">f4")
    pixels[..., :2] = flow.transpose(1, 2, 0)
    (tmp_path / "a.pfm").write_bytes(b"PF\n4 3\n1.0\n" + pixels[::-1].tobytes())
    assert (read_flow(tmp_path / "a.pfm")[0] == flow).all()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    write_flow(tmp_path / "whole.flo", a_flow(2, 4, 4)[0])
    whole = (tmp_path / "whole.flo").read_bytes()
    header = np.array([-4, 4], "<i4").tobytes()
    cases = {
        "tag.flo": (b"XXXX" + whole[4:], "another kind of file"),
        "short.flo": (whole[:-1], "139 bytes, but 4 x 4 pixels take 140"),
        "long.flo": (whole + b"0", "141 bytes"),
        "header.flo": (whole[:9], "ends inside its header"),
        "size.flo": (whole[:4] + header + whole[12:], "-4 x 4 pixels"),
        "empty.flo": (b"", "another kind of file"),
        "empty.png": (b"", "cannot be decoded"),
        "damaged.png": (b"\x89PNG\r\n", "cannot be decoded"),
        "grey.pfm": (b"Pf\n1 1\n-1.0\n0000", "3 channels"),
        "header.pfm": (b"PF\n1 x\n-1.0\n", "no header"),
        "short.pfm": (b"PF\n1 1\n-1.0\n0000", "4 bytes of pixels"),
        "flow.jpg": (b"", "the ending '.jpg'"),
    }
    for name, (data, sentence) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=sentence) as refusal:
            read_flow(tmp_path / name)
        assert name in str(refusal.value)
    Image.new("RGBA", (2, 2)).save(tmp_path / "picture.png")
    with pytest.raises(DataError, match="4 channels of uint8"):
        read_flow(tmp_path / "picture.png")
    with pytest.raises(DataError, match="is no file"):
        read_flow(tmp_path / "missing.flo")


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    flow = np.zeros((2, 2, 2), np.float32)
    flow[0, 0, 0] = 600
    with pytest.raises(DataError, match=r"up to 512 pixels.*\.flo"):
        write_flow(tmp_path / "a.png", flow)
    flow[0, 0, 0] = np.nan
    with pytest.raises(DataError, match="not finite"):
        write_flow(tmp_path / "a.flo", flow)
    with pytest.raises(DataError, match=r"expected \[2, H, W\]"):
        write_flow(tmp_path / "a.flo", flow[0])


def test_errors_by_hand() -> None:
    truth = torch.tensor([[[0.0, 100.0, 0.0, 7.0]], [[0.0, 0.0, 0.0, 7.0]]])
    flow = torch.tensor([[[3.0, 104.0, 0.5, 0.0]], [[4.0, 0.0, 0.0, 0.0]]])
    errors = flow_errors(flow, truth, torch.tensor([[True, True, True, False]]))
    # 5 px of 0 counts as wrong for KITTI; 4 px of 100 does not.
    assert errors.end_point_error == pytest.approx((5 + 4 + 0.5) / 3)
    assert (errors.above_1px, errors.above_3px, errors.above_5px) == pytest.approx((2 / 3, 2 / 3, 0))
    assert (errors.f1_all, errors.pixels) == (pytest.approx(1 / 3), 3)
    with pytest.raises(ValueError, match="known at no pixel"):
        flow_errors(flow, truth, torch.zeros(1, 4, dtype=torch.bool))
