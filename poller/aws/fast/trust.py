"""Whom TLS trusts: the certificates that the AWS configuration names, else the system's and those botocore brings."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from botocore.httpsession import get_cert_path

from poller.model.errors import Denied


def trusting(bundle: str | None) -> ssl.SSLContext:
    """A context that checks a server's certificate and its name. Reads files.

    Args:
        bundle: of `ca_bundle` in the AWS configuration or AWS_CA_BUNDLE; it replaces all others. None: see above; a
            machine without certificates of its own reaches AWS all the same, as with botocore.

    Raises:
        Denied: a file that is named cannot be used.
    """
    named = bundle or os.environ.get("REQUESTS_CA_BUNDLE")
    try:
        if named is not None:
            folder = Path(named).is_dir()
            return ssl.create_default_context(capath=named if folder else None, cafile=None if folder else named)
        context = ssl.create_default_context()
        context.load_verify_locations(get_cert_path(verify=True))
    except OSError as error:  # ssl's own errors are among them
        why = error.strerror if isinstance(error, FileNotFoundError) else "it holds no certificate in PEM form"
        raise Denied(f"aws: the certificates of {named or 'botocore'} (AWS_CA_BUNDLE) cannot be used: {why}") from error
    return context
