// SPDX-License-Identifier: Apache-2.0

package labels

import (
	"fmt"
	"strings"
)

// Limits of Kubernetes' label syntax, in bytes.
const (
	maxName   = 63
	maxPrefix = 253
)

// ValidateKey checks a label key: an optional DNS subdomain and a slash, then a
// name of at most 63 characters.
func ValidateKey(key string) error {
	prefix, name, found := strings.Cut(key, "/")
	if !found {
		prefix, name = "", key
	} else if prefix == "" || len(prefix) > maxPrefix || !IsSubdomain(prefix) {
		return fmt.Errorf("label key %q: the part before the slash must be a DNS subdomain of at most %d characters", key, maxPrefix)
	}
	if name == "" || len(name) > maxName || !isName(name) {
		return fmt.Errorf("label key %q: the name must be 1 to %d letters, digits, '-', '_' or '.', beginning and ending with a letter or digit", key, maxName)
	}
	return nil
}

// ValidateValue checks a label value: empty, or a name of at most 63 characters.
func ValidateValue(value string) error {
	if value == "" {
		return nil
	}
	if len(value) > maxName || !isName(value) {
		return fmt.Errorf("label value %q: must be empty or up to %d letters, digits, '-', '_' or '.', beginning and ending with a letter or digit", value, maxName)
	}
	return nil
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if isAlnum(c) {
			continue
		}
		if i == 0 || i == len(s)-1 || c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// IsSubdomain reports whether s is one or more DNS labels (RFC 1123) separated by
// dots. It does not look at lengths.
func IsSubdomain(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
				return false
			}
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
