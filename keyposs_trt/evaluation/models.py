"""Models, one or several, on all faces of a data set."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keyposs_trt.detection import load_detector
from keyposs_trt.errors import UsageError
from keyposs_trt.evaluation.boxes import DETECTOR, BoxSource
from keyposs_trt.evaluation.figures import check_norms, figures_of
from keyposs_trt.evaluation.located import in_one_scheme, locate_faces
from keyposs_trt.evaluation.locator import OWN, Locator, open_locator
from keyposs_trt.evaluation.processes import locate_in_processes
from keyposs_trt.evaluation.record import to_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from keyposs_trt.datasets import Dataset, Face
    from keyposs_trt.evaluation.figures import Figures
    from keyposs_trt.evaluation.located import Located


@dataclass(frozen=True)
class Setup:
    """A model and what is done with it, said in words, so that another process can do the same.

    Attributes:
        title: what the user calls the model.
        model: name or path.
        decoders, backend, threads: as ``open_locator`` takes them.
        boxes, box_scale: as ``BoxSource`` takes them.
        detector: name of the face detector, for the boxes of that name.
        flip_test: average the landmarks with those of the mirror image.
        sizes: heatmap sizes that were asked for; those of the model are accepted alone, and any if none was.
    """

    title: str
    model: str
    decoders: tuple[str, ...] = (OWN,)
    backend: str = "auto"
    threads: int | None = None
    boxes: str = "landmarks"
    box_scale: float = 1.0
    detector: str = "blazeface"
    flip_test: bool = False
    sizes: tuple[int, ...] = ()

    def open_locator(self) -> Locator:
        """Opens the model; see ``open_locator`` for other errors.

        Raises:
            UsageError: it does not have the heatmap size asked for.
        """
        locator = open_locator(self.model, self.decoders, self.backend, self.threads)
        own = locator.spec.heatmap_size
        other = next((size for size in self.sizes if size != own), None)
        if other is not None:
            locator.close()
            raise UsageError(f"'{self.title}' has heatmaps of {own}, not {other}; --heatmap chooses among the sizes of a checkpoint.")
        return locator

    def open_boxes(self) -> BoxSource:
        """Opens what gives the boxes; UsageError or ModelError where there is no such source or detector."""
        detector = load_detector(self.detector, threads=self.threads) if self.boxes == DETECTOR else None
        return BoxSource(self.boxes, self.box_scale, detector)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured of one model: the landmarks, the figures, and both as ``to_record`` gives them."""

    title: str
    located: Located
    figures: Figures
    record: dict[str, Any]


def evaluate_models(
    setups: Sequence[Setup],
    open_data: Callable[[], Dataset],
    norms: Sequence[str] | None = None,
    as_it_is: bool = False,
    processes: int = 1,
    progress: Callable[[Iterable[Face]], Iterable[Face]] = iter,
) -> list[Evaluation]:
    """Evaluates models one after the other. All are opened before the first is run, so that what is wrong is said at once.

    Args:
        setups: the models, cropped by the same boxes.
        open_data: gives the data set; called when the models are open.
        norms: as of ``figures_of``.
        as_it_is: compare by the points of the data set, not by those of the models where it holds them.
        processes: how many share the faces; 1 for this one alone.
        progress: wraps the faces, to show how far it is.

    Raises:
        UsageError: the models cannot be compared on this data set, or a name is unknown.
        DataError, ModelError, BackendError: see ``open_dataset``, ``open_locator``, ``locate_faces`` and ``locate_in_processes``.
    """
    found = []
    with ExitStack() as stack:
        locators = [stack.enter_context(setup.open_locator()) for setup in setups]
        dataset = open_data()
        if not as_it_is:
            dataset = in_one_scheme(dataset, [locator.scheme.name for locator in locators])
        check_norms(dataset.scheme, norms)
        boxes = setups[0].open_boxes()
        for setup, locator in zip(setups, locators, strict=True):
            if processes > 1:
                located = locate_in_processes(setup, dataset, processes, progress)
            else:
                located = locate_faces(locator, dataset, boxes, setup.flip_test, progress)
            figures = figures_of(located, norms)
            record = to_record(locator, located, figures, boxes, setup.flip_test)
            found.append(Evaluation(setup.title, located, figures, record))
    return found
