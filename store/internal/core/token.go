// SPDX-License-Identifier: Apache-2.0

package core

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/slipway-dev/slipway/store"
)

// token is what a continue token says: the revision of the list and the last
// key of the page.
type token struct {
	Revision  uint64 `json:"r"`
	Namespace string `json:"ns,omitempty"`
	Name      string `json:"n"`
	Remaining int    `json:"m"`
}

var tokenTable = crc32.MakeTable(crc32.Castagnoli)

// String encodes the token with a checksum over it and over the list that it
// belongs to, so that a token that was changed, or is used for another list, is
// refused rather than answered wrongly.
func (t token) String(schema *store.Schema, opts *store.ListOptions) string {
	body, err := json.Marshal(t)
	if err != nil {
		panic("store: a continue token can't be encoded: " + err.Error()) // numbers and strings always can
	}
	sum := tokenSum(body, schema, opts)
	return base64.RawURLEncoding.EncodeToString(body) + "." + fmt.Sprintf("%08x", sum)
}

func tokenSum(body []byte, schema *store.Schema, opts *store.ListOptions) uint32 {
	list := fmt.Sprintf("\x00%s\x00%s\x00%s\x00%s\x00%s", schema.Group, schema.Name, opts.Namespace, opts.Labels, opts.Fields)
	return crc32.Update(crc32.Checksum(body, tokenTable), tokenTable, []byte(list))
}

func parseToken(text string, schema *store.Schema, opts *store.ListOptions) (token, error) {
	var t token
	code, sum, _ := strings.Cut(text, ".")
	body, err := base64.RawURLEncoding.DecodeString(code)
	if err != nil || fmt.Sprintf("%08x", tokenSum(body, schema, opts)) != sum {
		return t, store.Invalidf("continue token %.40q was changed, or belongs to another list: use it as it was returned, with the same kind, namespace and selectors", text)
	}
	if err := json.Unmarshal(body, &t); err != nil {
		return t, store.Invalidf("continue token %.40q: %v", text, err)
	}
	return t, nil
}
