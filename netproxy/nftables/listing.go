// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"bytes"
	"strings"
	"time"
)

// listing is what nft shows of a table.
type listing struct {
	there   bool
	dormant bool                  // somebody has switched the table off
	sets    map[string]*listedSet // and maps
	chains  map[string]string     // the body of each, as nft shows it
}

type listedSet struct {
	kind     string // set or map
	elements map[string]bool
	timeout  time.Duration // zero: none
}

// parseListing reads the blocks of the table: "map NAME {", "set NAME {" and
// "chain NAME {", each ended by a line with a single brace.
func parseListing(text []byte) listing {
	l := listing{there: true, sets: map[string]*listedSet{}, chains: map[string]string{}}
	var kind, name string
	var body []byte
	for line := range bytes.Lines(text) {
		f := bytes.Fields(line)
		switch {
		case len(f) == 3 && string(f[2]) == "{" && bytes.HasPrefix(line, []byte("\t")) && kind == "":
			kind, name, body = string(f[0]), string(f[1]), nil
		case kind != "" && len(f) == 1 && string(f[0]) == "}":
			if kind == "chain" {
				l.chains[name] = string(body)
			} else {
				l.sets[name] = parseSet(kind, body)
			}
			kind = ""
		case kind == "" && len(f) == 2 && string(f[0]) == "flags" && string(f[1]) == "dormant":
			l.dormant = true
		case kind != "":
			body = append(body, line...)
		}
	}
	return l
}

func parseSet(kind string, body []byte) *listedSet {
	s := &listedSet{kind: kind, elements: map[string]bool{}}
	head, list, _ := bytes.Cut(body, []byte("elements = {"))
	for line := range strings.Lines(string(head)) {
		if t, ok := strings.CutPrefix(strings.TrimSpace(line), "timeout "); ok {
			s.timeout = parseTime(t)
		}
	}
	list, _, _ = bytes.Cut(list, []byte("}"))
	for e := range bytes.SplitSeq(list, []byte(",")) {
		if e = bytes.TrimSpace(e); len(e) > 0 {
			s.elements[string(e)] = true
		}
	}
	return s
}

// parseTime reads a time as nft shows it, with days: "1d2h". One that can't be
// read is none.
func parseTime(t string) time.Duration {
	var sum time.Duration
	if days, rest, ok := strings.Cut(t, "d"); ok {
		d, err := time.ParseDuration(days + "h")
		if err != nil {
			return 0
		}
		if sum, t = 24*d, rest; t == "" {
			return sum
		}
	}
	d, err := time.ParseDuration(t)
	if err != nil {
		return 0
	}
	return sum + d
}
