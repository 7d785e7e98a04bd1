"""A function whose dependency was forgotten."""

import a_module_that_nobody_installed  # type: ignore[import-not-found]  # nobody did


def handler(event, context):
    return a_module_that_nobody_installed.answer(event)
