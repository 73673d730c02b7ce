# SPDX-License-Identifier: Apache-2.0
"""Ask an OpenAI-compatible endpoint about pictures; runs can be resumed and have a budget.

`client` sends one request, `batch` sends many, `replies` stores the raw replies, and `options`
reads the command line.
"""

from mmrel_kit.endpoint.batch import Budget as Budget
from mmrel_kit.endpoint.batch import Endpoint as Endpoint
from mmrel_kit.endpoint.batch import Prices as Prices
from mmrel_kit.endpoint.client import load_client as load_client
from mmrel_kit.endpoint.client import normalise_url as normalise_url
from mmrel_kit.endpoint.options import add_arguments as add_arguments
from mmrel_kit.endpoint.options import make_endpoint as make_endpoint
from mmrel_kit.endpoint.options import make_store_path as make_store_path
from mmrel_kit.endpoint.replies import Attachment as Attachment
from mmrel_kit.endpoint.replies import Reply as Reply
from mmrel_kit.endpoint.replies import Request as Request
from mmrel_kit.endpoint.replies import Store as Store
from mmrel_kit.endpoint.replies import Usage as Usage
from mmrel_kit.endpoint.replies import media_type as media_type
from mmrel_kit.endpoint.replies import read_reply_texts as read_reply_texts
from mmrel_kit.endpoint.replies import replace_surrogates as replace_surrogates
