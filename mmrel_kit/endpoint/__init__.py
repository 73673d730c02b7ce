# SPDX-License-Identifier: Apache-2.0
"""Ask an OpenAI-compatible endpoint about pictures, resumable and within a budget.

`replies` keeps every raw reply, `client` sends one request, `asking` sends many, `options` reads
the command line.
"""

from mmrel_kit.endpoint.asking import Budget as Budget
from mmrel_kit.endpoint.asking import Endpoint as Endpoint
from mmrel_kit.endpoint.asking import Prices as Prices
from mmrel_kit.endpoint.client import load_client as load_client
from mmrel_kit.endpoint.client import normalise_url as normalise_url
from mmrel_kit.endpoint.options import add_arguments as add_arguments
from mmrel_kit.endpoint.options import from_arguments as from_arguments
from mmrel_kit.endpoint.options import make_store_path as make_store_path
from mmrel_kit.endpoint.replies import Attachment as Attachment
from mmrel_kit.endpoint.replies import Reply as Reply
from mmrel_kit.endpoint.replies import Request as Request
from mmrel_kit.endpoint.replies import Store as Store
from mmrel_kit.endpoint.replies import Usage as Usage
from mmrel_kit.endpoint.replies import media_type as media_type
from mmrel_kit.endpoint.replies import mend as mend
from mmrel_kit.endpoint.replies import read_texts as read_texts
