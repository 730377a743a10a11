// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"encoding/base64"
	"net/http"
	"strings"
)

// wsPrefix marks a websocket subprotocol that carries a bearer token, for
// browsers, which can't set headers.
const wsPrefix = "base64url.bearer.authorization.k8s.io."

func wsBearer(r *http.Request) string {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return ""
	}
	for _, list := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(list, ",") {
			if text, ok := strings.CutPrefix(strings.TrimSpace(p), wsPrefix); ok {
				if token, err := base64.RawURLEncoding.DecodeString(text); err == nil {
					return string(token)
				}
			}
		}
	}
	return ""
}
