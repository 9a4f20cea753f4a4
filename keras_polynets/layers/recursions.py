"""The recursions of polynomial networks, each written once over linear maps.

Each function combines what the maps of the input yield (`factors`, the tensors
`U_n z` or `A_n z`) with maps of the hidden state, which are any callables:
dense layers, convolutions, residual blocks. The results are polynomials of the
input whose degree is the number of factors, when the maps are linear.
"""


def ccp(factors, between=None):
    """Coupled CP decomposition: `x_n = (U_n z) * x_{n-1} + x_{n-1}`.

    Args:
        factors: The tensors `U_1 z, ..., U_N z`, all of one shape.
        between: A callable `(n, x_n) -> x_n` that is applied after the `n`-th
            order (counted from 1), for example a pooling. The factors that
            follow must have the shape that it returns.

    Returns:
        `x_N`.

    Reference:
        - Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", 2020,
          the CCP model.
    """
    x = None
    for n, factor in enumerate(factors, start=1):
        x = factor if x is None else factor * x + x
        x = x if between is None else between(n, x)
    return x


def ncp(factors, first_state, state_maps, skip_maps=None):
    """Nested coupled CP decomposition, with or without skips.

    `x_1 = (A_1 z) * b_1`, then `x_n = (A_n z) * (S_n x_{n-1} + b_n)`, to which
    NCP-Skip adds `V_n x_{n-1}`.

    Args:
        factors: The tensors `A_1 z, ..., A_N z`, all of one shape.
        first_state: `b_1`, broadcastable to the factors.
        state_maps: The `N - 1` affine maps `x -> S_n x + b_n`, `n = 2, ..., N`.
        skip_maps: `None` for NCP, or the `N - 1` maps `x -> V_n x` of
            NCP-Skip.

    Returns:
        `x_N`.

    Reference:
        - Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", 2020,
          the NCP model.
        - Chrysos et al., "Deep Polynomial Neural Networks", TPAMI 2021, the
          NCP-Skip model.
    """
    first, *rest = factors
    x = first * first_state
    skips = skip_maps or [None] * len(rest)
    for factor, state_map, skip_map in zip(
        rest, state_maps, skips, strict=True
    ):
        product = factor * state_map(x)
        x = product if skip_map is None else product + skip_map(x)
    return x
