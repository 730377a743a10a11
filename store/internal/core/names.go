// SPDX-License-Identifier: Apache-2.0

package core

import (
	"encoding/hex"
	"math/rand/v2"
)

// newUID returns a random UUID (RFC 9562, version 4). It must be unique, not
// secret, so that the runtime's generator serves (10 ns, against 300 for the
// kernel's).
func newUID() string {
	var id [16]byte
	a, b := rand.Uint64(), rand.Uint64()
	for i := range 8 {
		id[i], id[8+i] = byte(a>>(8*i)), byte(b>>(8*i))
	}
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	var text [36]byte
	hex.Encode(text[:8], id[:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:], id[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}

// suffixAlphabet has no vowels, so that generated names spell nothing.
const suffixAlphabet = "bcdfghjklmnpqrstvwxz2456789"

// randomSuffix returns what is appended to GenerateName.
func randomSuffix() string {
	var b [5]byte
	for i := range b {
		b[i] = suffixAlphabet[rand.IntN(len(suffixAlphabet))]
	}
	return string(b[:])
}
