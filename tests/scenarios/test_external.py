"""A solver behind a server of the UM-Bridge protocol, as the protocol's own package serves it."""

import math
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib.request import urlopen

import numpy as np
import pytest

from mno.core.config import validate
from mno.core.errors import InputError, MnoError
from mno.core.files import tree_sha256
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.generate.run import generate
from mno.data.generate.work import make_plan
from mno.data.reading import read_split
from mno.scenarios.base import make_scenario
from mno.scenarios.external import External, ExternalParameters
