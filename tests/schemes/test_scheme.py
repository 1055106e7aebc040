from __future__ import annotations

import json
from itertools import chain, pairwise

import numpy as np
import pytest

from keyposs_trt.errors import UsageError
from keyposs_trt.schemes import load_scheme, scheme_names

COUNTS = {"wflw": 98, "300w": 68, "cofw": 29, "aflw": 19, "lapa": 106}
# The published map from WFLW to the 68 points.
WFLW_EYES = (60, 61, 63, 64, 65, 67, 68, 69, 71, 72, 73, 75)
WFLW_TO_68 = (*range(0, 33, 2), *range(33, 38), *range(42, 47), *range(51, 60), *WFLW_EYES, *range(76, 96))

every_scheme = pytest.mark.parametrize("name", sorted(COUNTS))


def mirrored(name: str) -> str:
    """The name that a point has in a mirror."""
    if name.startswith("right_"):
        return "left_" + name[6:]
    return "right_" + name[5:] if name.startswith("left_") else name


def test_all_schemes_are_there():
    assert scheme_names() == sorted(COUNTS)


@every_scheme
def test_points(name):
    scheme = load_scheme(name)
    assert scheme.name == name
    assert len(scheme) == len(scheme.names) == len(scheme.flip) == COUNTS[name]
    assert len(set(scheme.names)) == len(scheme)


@every_scheme
def test_flip_is_an_involution_over_every_point(name):
    flip = load_scheme(name).flip
    assert sorted(flip) == list(range(COUNTS[name]))
    assert flip[flip].tolist() == list(range(COUNTS[name]))


@every_scheme
def test_flip_swaps_right_and_left_of_the_names(name):
    scheme = load_scheme(name)
    assert [scheme.names[i] for i in scheme.flip] == [mirrored(n) for n in scheme.names]


@every_scheme
def test_flip_cannot_be_changed_by_a_caller(name):
    with pytest.raises(ValueError, match="read-only"):
        load_scheme(name).flip[0] = 1


@every_scheme
def test_norms_are_mirror_pairs_of_points(name):
    scheme = load_scheme(name)
    assert scheme.norm_name in {*scheme.norms, "box"}
    for right, left in scheme.norms.values():
        assert sorted(scheme.flip[list(right)]) == sorted(left)
        assert all(scheme.names[i].startswith("right_") for i in right)


@every_scheme
def test_parts_hold_every_point_once(name):
    scheme = load_scheme(name)
    assert list(scheme.parts) == ["jaw", "brows", "nose", "eyes", "mouth"]
    assert sorted(chain(*scheme.parts.values())) == list(range(len(scheme)))


@every_scheme
def test_parts_agree_with_the_names(name):
    scheme = load_scheme(name)
    words = {"jaw": ("jaw", "chin"), "brows": ("brow",), "nose": ("nose",), "eyes": ("eye", "pupil"), "mouth": ("mouth",)}
    for part, indices in scheme.parts.items():
        assert all(any(w in scheme.names[i] for w in words[part]) for i in indices)


@every_scheme
def test_each_line_stays_in_one_part_and_repeats_nothing_but_its_start(name):
    scheme = load_scheme(name)
    for line in scheme.lines:
        assert any(set(line) <= set(indices) for indices in scheme.parts.values())
        inner = line[1:] if line[0] == line[-1] else line
        assert len(line) > 1
        assert len(set(inner)) == len(inner)


@every_scheme
def test_lines_look_the_same_in_a_mirror(name):
    scheme = load_scheme(name)
    edges = {frozenset(e) for line in scheme.lines for e in pairwise(line)}
    assert {frozenset(scheme.flip[list(e)]) for e in edges} == edges


@every_scheme
def test_subsets_keep_the_flip_pairs_and_parts(name):
    scheme = load_scheme(name)
    for target_name, subset in scheme.subsets.items():
        target = load_scheme(target_name)
        indices = np.array(subset)
        assert len(set(subset)) == len(subset) == len(target)
        assert scheme.flip[indices].tolist() == indices[target.flip].tolist()
        for part, members in target.parts.items():
            assert {subset[i] for i in members} <= set(scheme.parts[part])
        assert subset[target.norm[0][0]] == scheme.norm[0][0]


def test_wflw_to_68():
    assert load_scheme("wflw").subsets["300w"] == WFLW_TO_68
    assert sorted(load_scheme("lapa").subsets) == ["300w"]


def test_published_norms():
    assert load_scheme("wflw").norm == ((60,), (72,))
    assert load_scheme("300w").norm == ((36,), (45,))
    assert load_scheme("300w").norms["inter_pupil"] == (tuple(range(36, 42)), tuple(range(42, 48)))
    assert load_scheme("cofw").norm == ((8,), (9,))
    assert load_scheme("cofw").norms["inter_pupil"] == ((16,), (17,))
    assert load_scheme("lapa").norm == ((66,), (79,))
    assert load_scheme("aflw").norm_name == "box"
    assert load_scheme("aflw").norm == ((6,), (11,))


def test_alias():
    assert load_scheme("coco_wholebody_face").name == "300w"


@pytest.mark.parametrize("name", ["wflw98", "", "300W", "../300w"])
def test_unknown_name_lists_the_known_ones(name):
    with pytest.raises(UsageError, match=r"choose one of 300w, aflw, cofw, lapa, wflw\.$"):
        load_scheme(name)


@pytest.mark.shared
@every_scheme
def test_geometry_on_annotated_photographs(name, shared_data):
    """Right is left of left, brows over eyes over nose over mouth, and a mirrored face lies on itself."""
    scheme = load_scheme(name)
    side = np.array([n.split("_")[0] for n in scheme.names])
    for face in json.loads((shared_data / "photos" / name / f"test_{name}.json").read_text())["annotations"]:
        points = np.reshape(face["keypoints"], (-1, 3))[:, :2]
        middle = {part: points[list(i)].mean(0) for part, i in scheme.parts.items()}
        assert points[side == "right", 0].mean() < points[side == "left", 0].mean()
        assert middle["brows"][1] < middle["eyes"][1] < middle["nose"][1] < middle["mouth"][1] < points[scheme.names.index("chin"), 1]
        assert mirror_error(points, scheme.flip, scheme.norm) < 0.2
        assert mirror_error(points, np.arange(len(scheme)), scheme.norm) > 0.3


def mirror_error(points, flip, norm):
    """Mean distance between a face and its mirror image laid on it (shift, turn and scale), over the eye distance."""
    z, m = points @ [1, 1j], (points[flip] * [-1, 1]) @ [1, 1j]
    eyes = abs(z[list(norm[0])].mean() - z[list(norm[1])].mean())
    z, m = z - z.mean(), m - m.mean()
    return np.abs(m * (np.vdot(m, z) / np.vdot(m, m)) - z).mean() / eyes
