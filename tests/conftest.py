"""The environment of every test: throw-away credentials, no instance metadata, nobody's own AWS configuration."""

import os
from pathlib import Path

import hypothesis

_CONFIG = Path(__file__).parent / "servers" / "aws_config"

os.environ.update(
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",
    AWS_EC2_METADATA_DISABLED="true",
    AWS_CONFIG_FILE=str(_CONFIG),
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
)
for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
    os.environ.pop(name, None)

# A property is about values; a machine that does something else for a fifth of a second proves nothing against it.
hypothesis.settings.register_profile("poller", deadline=None)
hypothesis.settings.load_profile("poller")
