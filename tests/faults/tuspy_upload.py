"""Uploads a file with tuspy: ENDPOINT FILE URLS OPTIONS, the last as JSON. `stop_at` among them ends it early."""

import json
import sys

from tusclient.client import TusClient
from tusclient.storage.filestorage import FileStorage

endpoint, path, urls, given = sys.argv[1:]
options = json.loads(given)
stop_at = options.pop("stop_at", None)
memory = {"store_url": True, "url_storage": FileStorage(urls)}
uploader = TusClient(endpoint).uploader(path, **memory, **options)
sys.stdout.write(f"goes on at {uploader.offset}\n")
uploader.upload(stop_at=stop_at)
