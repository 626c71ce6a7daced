"""The device flow (RFC 8628): somebody logs in at the issuer with any browser, and this command gets the token.

    token = get_id_token(client.issuer(), print)

Control's answer, which came over its pinned CA, says where the issuer is and which CA it has. The password, and
whatever second factor the issuer asks for, are never seen here.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import Any

import httpx

from archipel.spec import LinkError, TrustError
from archipel.spec.issuer import IssuerView

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_SLOWER_SECONDS = 5.0
_TIMEOUT_SECONDS = 30.0


def get_id_token(issuer: IssuerView, say: Callable[[str], None], sleep: Callable[[float], None] = time.sleep) -> str:
    """Return the ID token of whoever follows what `say` is told.

    Raises:
        TrustError: they refused, or took too long.
        LinkError: the issuer cannot be reached, or says what is none of the flow.
    """
    context = ssl.create_default_context(cadata=issuer.ca_pem)
    with httpx.Client(verify=context, timeout=_TIMEOUT_SECONDS, trust_env=False) as http:
        asked = {"client_id": issuer.client_id, "scope": issuer.scope}
        status, flow = _post(http, issuer.device_authorization_endpoint, asked)
        if status != httpx.codes.OK or not isinstance(flow.get("device_code"), str):
            raise LinkError(
                f"the issuer begins no device flow: {_reason(flow)}", hint="is the client allowed to use it?"
            )
        where = flow.get("verification_uri_complete") or flow.get("verification_uri")
        say(f"open {where} in a browser; the code is {flow.get('user_code')}")
        return _wait(http, issuer, flow, sleep)


def _wait(http: httpx.Client, issuer: IssuerView, flow: dict[str, Any], sleep: Callable[[float], None]) -> str:
    interval = flow.get("interval")
    pause = float(interval) if isinstance(interval, int | float) else _SLOWER_SECONDS
    form = {"grant_type": GRANT, "device_code": flow["device_code"], "client_id": issuer.client_id}
    while True:
        sleep(pause)
        status, answer = _post(http, issuer.token_endpoint, form)
        match answer.get("error"):
            case "authorization_pending":
                continue
            case "slow_down":
                pause += _SLOWER_SECONDS
            case "access_denied" | "expired_token":
                hint = "run `archipel login --issuer` again, and confirm in the browser"
                raise TrustError(f"the issuer gives no token: {_reason(answer)}", hint=hint)
            case None if status == httpx.codes.OK and isinstance(answer.get("id_token"), str):
                return str(answer["id_token"])
            case _:
                hint = "does `scope` of the issuer's file hold openid?"
                raise LinkError(f"the issuer gives no ID token: {_reason(answer)}", hint=hint)


def _post(http: httpx.Client, url: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
    try:
        answer = http.post(url, data=form)
        found = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        hint = "is it reachable from this machine?"
        raise LinkError(f"the issuer at {url} cannot be reached: {error or type(error).__name__}", hint=hint) from error
    return answer.status_code, found if isinstance(found, dict) else {}


def _reason(answer: dict[str, Any]) -> str:
    return str(answer.get("error_description") or answer.get("error") or "it says nothing")[:200]
