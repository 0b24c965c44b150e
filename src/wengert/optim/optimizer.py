"""The base of all optimisers: parameter groups, the step that succeeds as a whole or changes nothing, and the state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any

import numpy as np

import wengert as wg
from wengert import Tensor
from wengert.errors import CheckpointError, DTypeError, GradientError

from .bucket import Bucket, Update, arrange, working_dtype
from .recorded import record_step

Group = dict[str, Any]
Parameters = Iterable[Tensor] | Iterable[Group]
Job = tuple[Bucket, list[np.ndarray], Update, Group]


class Optimizer:
    """Updates parameters from their gradients; the rule is a subclass's.

    A subclass says in `initial` what state a parameter has, and in `update_of` what a step does with it.

    Args:
        params: the parameters, or groups of them: dicts with "params" and hyperparameters that differ from the rest.
        defaults: hyperparameters of groups that don't give their own.

    Attributes:
        param_groups: one dict for each group; hyperparameters may be changed between steps, as schedulers do.
        buckets: for each group, where the state of parameters is that have taken a step.

    Raises:
        ValueError: there is no parameter, one is given twice, or a hyperparameter is out of its range.
        DTypeError, GradientError: what is given is not a Tensor, or cannot be trained.
    """

    records_itself = True
    buckets: list[list[Bucket]]

    def __init__(self, params: Parameters, defaults: Group) -> None:
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self.buckets = []
        self._waiting: list[list[Tensor]] = []
        given = _listed(params, self._name)
        if not given:
            raise ValueError(
                f"{self._name}: there are no parameters to train. A module that was asked for parameters() before its "
                "layers were made, or an iterator that was used up, looks like this"
            )
        for group in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(group)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        lines = [f"{self._name} ("]
        for i, group in enumerate(self.param_groups):
            settings = ", ".join(f"{key}={value!r}" for key, value in group.items() if key != "params")
            lines.append(f"  group {i}: {len(group['params'])} parameters, {settings}")
        return "\n".join([*lines, ")"])

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Train more parameters, with hyperparameters of their own where given.

        Raises:
            ValueError: a parameter is trained already, a key is unknown, or a value is out of its range.
        """
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            raise ValueError(f'{self._name}: a parameter group is a dict with the key "params"')
        unknown = [key for key in param_group if key != "params" and key not in self.defaults]
        if unknown:
            raise ValueError(f"{self._name}: unknown hyperparameters {unknown}; known are {sorted(self.defaults)}")
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        known = {id(p) for group in self.param_groups for p in group["params"]}
        for position, parameter in enumerate(params):
            self._check_parameter(parameter, position)
            if id(parameter) in known:
                raise ValueError(
                    f"{self._name}: the parameter of shape {parameter.shape} at position {position} is given twice; it "
                    "would be updated twice in each step"
                )
            known.add(id(parameter))
        group = {"params": tuple(params), **self.defaults, **{k: v for k, v in param_group.items() if k != "params"}}
        self.update_of(group, 1)
        self.param_groups.append(group)
        self.buckets.append([])
        self._waiting.append(params)

    def _check_parameter(self, parameter: Any, position: int) -> None:
        if isinstance(parameter, tuple) and len(parameter) == 2 and isinstance(parameter[0], str):
            raise DTypeError(f"{self._name}: pass model.parameters(), not model.named_parameters()")
        if not isinstance(parameter, Tensor):
            raise DTypeError(
                f"{self._name}: can train Tensors, not the {type(parameter).__name__} at position {position}"
            )
        if not parameter.is_leaf:
            raise GradientError(
                f"{self._name}: the Tensor of shape {parameter.shape} at position {position} was computed from others, "
                "and a leaf is needed: its gradient would not be kept in .grad. Pass what it was computed from"
            )
        if parameter.dtype.kind != "f":
            raise DTypeError(f"{self._name}: cannot train a Tensor of dtype {parameter.dtype}; it has no gradient")

    # ------------------------------------------------------------------ what a subclass says

    def initial(self, group: Group) -> dict[str, float]:
        """Return the names of the state of a parameter in this group, in the rule's order, with its first values."""
        raise NotImplementedError

    def update_of(self, group: Group, count: int) -> Update:
        """Return what the `count`-th step does to parameters of this group.

        Raises:
            ValueError: a hyperparameter is out of its range.
        """
        raise NotImplementedError

    def units(self, group: Group) -> dict[str, float]:
        """Return factors by which state is to be multiplied to get what it estimates, for state kept in other units."""
        return {}

    # ------------------------------------------------------------------ a step

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or (`set_to_none=False`) make them zero."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad = wg.zeros(parameter.shape, parameter.dtype)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient: all of them or, on error, none.

        Args:
            closure: computes the loss anew, with its gradients, and returns it.

        Returns:
            What the closure returned.

        Raises:
            DTypeError, ShapeError: a gradient does not fit its parameter.
            ValueError: a hyperparameter is out of its range.
        """
        loss = None
        if closure is not None:
            with wg.enable_grad():
                loss = closure()
        recorder = Tensor.recorder()
        if recorder is not None:
            record_step(self, recorder)
            return loss
        jobs: list[Job] = []
        parameters: list[Tensor] = []
        for position, group in enumerate(self.param_groups):
            for bucket, gradients in self.ready(position, group):
                jobs.append((bucket, gradients, self.update_of(group, bucket.count + 1), group))
                parameters += bucket.parameters
        if not jobs:
            return loss

        for bucket, _, _, group in jobs:
            bucket.require(self.initial(group))

        def write(arrays: list[np.ndarray]) -> None:
            start = 0
            with np.errstate(all="ignore"):  # whatever the user's settings, half a step is worse than a warning
                for bucket, gradients, update, group in jobs:
                    stop = start + len(gradients)
                    bucket.rescale(self.units(group))
                    bucket.apply(arrays[start:stop], gradients, update)
                    start = stop

        Tensor.update_buffers(parameters, write)
        return loss

    def ready(self, position: int, group: Group, *, raw: bool = True) -> list[tuple[Bucket, list[Any]]]:
        """Return the buckets of a group that have gradients; make and divide buckets as gradients come and go.

        With them come their gradients: as arrays, or (`raw=False`) as Tensors.
        """
        initial = self.initial(group)
        buckets = self.buckets[position]
        if self._waiting[position]:
            arrived = [p for p in self._waiting[position] if p.grad is not None]
            if arrived:
                buckets = buckets + arrange(arrived, initial)
        ready: list[tuple[Bucket, list[Any]]] = []
        kept: list[Bucket] = []
        for bucket in buckets:
            gradients = bucket.gradients(raw)
            if None not in _identities(gradients):
                parts = [(bucket, gradients)]
            elif len(gradients) == 1 or all(g is None for g in gradients):
                kept.append(bucket)
                continue
            else:
                parts = [(part, [g]) for part, g in zip(bucket.divided(), gradients)]
            for part, found in parts:
                kept.append(part)
                if found[0] is not None:
                    ready.append((part, found))
        self._keep(position, kept)
        return ready

    def _keep(self, position: int, buckets: list[Bucket]) -> None:
        self.buckets[position] = buckets
        if self._waiting[position]:
            held = {id(p) for bucket in buckets for p in bucket.parameters}
            self._waiting[position] = [p for p in self._waiting[position] if id(p) not in held]

    # ------------------------------------------------------------------ the state

    def state_dict(self) -> dict[str, Any]:
        """Return a snapshot of state and hyperparameters: nested dicts of Tensors and numbers, for `wg.io.save`.

        Parameters are numbered in the order in which they were given.

        >>> import wengert as wg
        >>> w = wg.ones(3).requires_grad_()
        >>> optimizer = wg.optim.SGD([w], lr=0.1, momentum=0.9)
        >>> w.sum().backward(); optimizer.step()
        >>> optimizer.state_dict()["state"]["0"]["momentum_buffer"]
        Tensor([1., 1., 1.], dtype=float32)
        """
        numbers = self._numbers()
        state: dict[str, Any] = {}
        for group, buckets in zip(self.param_groups, self.buckets):
            units = self.units(group)
            for bucket in buckets:
                if not bucket.count:
                    continue
                bucket.rescale(units)
                parts = {name: bucket.split_flat(flat) for name, flat in bucket.state.items()}
                for i, parameter in enumerate(bucket.parameters):
                    kept = {name: wg.tensor(views[i]) for name, views in parts.items()}
                    state[str(numbers[id(parameter)])] = {"step": bucket.count, **kept}
        groups = [
            {**{k: v for k, v in group.items() if k != "params"}, "params": [numbers[id(p)] for p in group["params"]]}
            for group in self.param_groups
        ]
        return {"state": dict(sorted(state.items(), key=_by_number)), "param_groups": groups}

    def _numbers(self) -> dict[int, int]:
        parameters = [p for group in self.param_groups for p in group["params"]]
        return {id(p): i for i, p in enumerate(parameters)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a snapshot, hyperparameters included: all of it or, on error, nothing.

        Raises:
            CheckpointError: the snapshot was made by an optimiser of other parameters, or of another kind.
        """
        groups, state = self._checked(state_dict)
        restored: list[Group] = []
        for group, saved in zip(self.param_groups, groups):
            restored.append({**group, **{k: v for k, v in saved.items() if k != "params"}})
            try:
                self.update_of(restored[-1], 1)
            except (TypeError, ValueError) as error:
                raise CheckpointError(f"{self._name}: the saved hyperparameters cannot be used: {error}") from error
        number = 0
        all_buckets, all_waiting = [], []
        for group in restored:
            loaded: dict[int, list[tuple[Tensor, Mapping[str, Any]]]] = {}
            waiting = []
            for parameter in group["params"]:
                saved = state.get(str(number))
                number += 1
                if saved is None:
                    waiting.append(parameter)
                else:
                    loaded.setdefault(int(saved["step"]), []).append((parameter, saved))
            all_buckets.append([b for count, pairs in loaded.items() for b in self._rebuilt(group, count, pairs)])
            all_waiting.append(waiting)
        self.param_groups[:] = restored
        self.buckets, self._waiting = all_buckets, all_waiting

    def _rebuilt(self, group: Group, count: int, pairs: list[tuple[Tensor, Mapping[str, Any]]]) -> list[Bucket]:
        saved = {id(parameter): entry for parameter, entry in pairs}
        buckets = arrange([parameter for parameter, _ in pairs], self.initial(group))
        for bucket in buckets:
            bucket.count = count
            bucket.units = tuple(self.units(group).values())
            for name, flat in bucket.state.items():
                for parameter, view in zip(bucket.parameters, bucket.split_flat(flat)):
                    view[...] = _values(saved[id(parameter)][name])
        return buckets

    def _checked(self, state_dict: Mapping[str, Any]) -> tuple[list[Group], Mapping[str, Any]]:
        try:
            groups, state = list(state_dict["param_groups"]), state_dict["state"]
            sizes = [len(group["params"]) for group in groups]
            entries = [(int(number), entry, int(entry["step"])) for number, entry in state.items()]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"{self._name}: this is not what an optimiser's state_dict() returns: {error!r}"
            ) from error
        own = [len(group["params"]) for group in self.param_groups]
        if sizes != own:
            raise CheckpointError(
                f"{self._name}: the snapshot has groups of {sizes} parameters, and this optimiser groups of {own}; "
                "nothing has been loaded"
            )
        for group in groups:
            if set(group) - {"params"} != set(self.defaults):
                raise CheckpointError(
                    f"{self._name}: the snapshot has the hyperparameters {sorted(set(group) - {'params'})}, and this "
                    f"optimiser {sorted(self.defaults)}; was it saved by another kind of optimiser?"
                )
        self._check_entries(groups, entries)
        return groups, state

    def _check_entries(self, groups: list[Group], entries: list[tuple[int, Any, int]]) -> None:
        parameters = [(p, group) for own, group in zip(self.param_groups, groups) for p in own["params"]]
        for number, entry, count in entries:
            if not 0 <= number < len(parameters) or count < 1:
                raise CheckpointError(f"{self._name}: the snapshot has state for parameter {number}, step {count}")
            parameter, group = parameters[number]
            names = list(self.initial(group))
            if set(entry) != {"step", *names}:
                raise CheckpointError(
                    f"{self._name}: the state of parameter {number} has {sorted(entry)}, and "
                    f"{sorted(['step', *names])} are needed; was it saved by another kind of optimiser?"
                )
            for name in names:
                values = _values(entry[name])
                wanted = working_dtype(parameter.dtype)
                if values.shape != parameter.shape or values.dtype != wanted:
                    raise CheckpointError(
                        f"{self._name}: {name} of parameter {number} has shape {values.shape} and dtype {values.dtype} "
                        f"in the snapshot; the parameter needs {parameter.shape} and {wanted}. Nothing has been loaded"
                    )


def _identities(gradients: list[Any]) -> list[Any]:
    # `None in arrays` would compare element by element.
    return [None if g is None else 0 for g in gradients]


def _values(value: Any) -> np.ndarray:
    return np.asarray(value._raw() if isinstance(value, Tensor) else value)


def _by_number(item: tuple[str, Any]) -> int:
    return int(item[0])


def _listed(params: Any, name: str) -> list[Any]:
    if isinstance(params, Tensor):
        raise DTypeError(f"{name}: pass an iterable of Tensors, not one Tensor: [x] for a single one")
    if isinstance(params, Mapping):
        raise DTypeError(f"{name}: pass an iterable of Tensors or of groups, not a mapping: .values(), or [group]")
    try:
        return list(params)
    except TypeError:
        raise DTypeError(f"{name}: parameters are an iterable of Tensors, not {type(params).__name__}") from None


def number_in(group: Group, key: str, *, below: float = float("inf"), owner: str) -> float:
    """Return a hyperparameter as a float in [0, below).

    Raises:
        ValueError: it is no number in that range.
    """
    return checked_number(group[key], key, below=below, owner=owner)


def checked_number(value: Any, key: str, *, below: float = float("inf"), owner: str) -> float:
    """Return a value as a float in [0, below).

    Raises:
        ValueError: it is no number in that range.
    """
    if type(value) is not float:
        try:
            value = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"{owner}: {key} must be a number, not {value!r}") from None
    if not 0 <= value < below or not isfinite(value):
        bound = f"less than {below:g}" if isfinite(below) else "finite"
        raise ValueError(f"{owner}: {key} must not be negative, and {bound}; it is {value!r}")
    return value
