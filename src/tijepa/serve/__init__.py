"""A trained model over HTTP: endpoints, their limits, and a web page.

`server.serve_run` starts it; `app.create_app` makes the application from a `Service`, which is all
that endpoints know of the model. FastAPI and uvicorn come with the extra `serve`.
"""

from __future__ import annotations
