// SPDX-License-Identifier: Apache-2.0

package labels

import "fmt"

// SyntaxError says where the text of a selector stops making sense.
type SyntaxError struct {
	Text string // the whole selector
	Pos  int    // offset in bytes, from 0
	Want string // what would have been right there
}

// Error names the position and what was expected.
func (e *SyntaxError) Error() string {
	got := "the end"
	if e.Pos < len(e.Text) {
		got = fmt.Sprintf("%q", e.Text[e.Pos:])
	}
	return fmt.Sprintf("label selector %q: at position %d: want %s, got %s", e.Text, e.Pos, e.Want, got)
}

// Parse reads a selector in Kubernetes' text syntax. Requirements are separated
// by commas; each is one of
//
//	key  !key  key=value  key==value  key!=value
//	key in (a, b)  key notin (a, b)  key>1  key<1
//
// Empty text selects everything. An error is a [*SyntaxError] where the text
// can't be read, and says which key or value is invalid otherwise.
func Parse(text string) (Selector, error) {
	p := parser{text: text}
	p.space()
	if p.end() {
		return nil, nil
	}
	var s Selector
	for {
		r, err := p.requirement()
		if err != nil {
			return nil, err
		}
		s = append(s, r)
		p.space()
		if p.end() {
			return s, nil
		}
		if !p.take(",") {
			return nil, p.want("',' or the end")
		}
	}
}

type parser struct {
	text string
	pos  int
}

func (p *parser) requirement() (Requirement, error) {
	p.space()
	start := p.pos
	if p.take("!") {
		p.space()
		key, err := p.key()
		if err != nil {
			return Requirement{}, err
		}
		return p.checked(start, key, DoesNotExist)
	}
	key, err := p.key()
	if err != nil {
		return Requirement{}, err
	}
	p.space()
	switch {
	case p.end() || p.text[p.pos] == ',':
		return p.checked(start, key, Exists)
	case p.take("=="), p.take("="):
		return p.checked(start, key, In, p.value())
	case p.take("!="):
		return p.checked(start, key, NotIn, p.value())
	case p.take(">"):
		return p.checked(start, key, Gt, p.value())
	case p.take("<"):
		return p.checked(start, key, Lt, p.value())
	}
	at := p.pos
	var op Operator
	switch p.word() {
	case "in":
		op = In
	case "notin":
		op = NotIn
	default:
		p.pos = at
		return Requirement{}, p.want("an operator (= == != in notin > <), ',' or the end")
	}
	p.space()
	if !p.take("(") {
		return Requirement{}, p.want("'('")
	}
	var values []string
	for {
		values = append(values, p.value())
		if p.take(")") {
			return p.checked(start, key, op, values...)
		}
		if !p.take(",") {
			return Requirement{}, p.want("',' or ')'")
		}
	}
}

// checked makes the requirement that began at start, and names that place if it
// is invalid.
func (p *parser) checked(start int, key string, op Operator, values ...string) (Requirement, error) {
	r, err := NewRequirement(key, op, values...)
	if err != nil {
		return r, fmt.Errorf("label selector %q: at position %d: %w", p.text, start, err)
	}
	return r, nil
}

func (p *parser) key() (string, error) {
	if key := p.word(); key != "" {
		return key, nil
	}
	return "", p.want("a label key")
}

// value reads a value, which may be empty, and the space around it.
func (p *parser) value() string {
	p.space()
	v := p.word()
	p.space()
	return v
}

// word reads up to the next space or character of the syntax.
func (p *parser) word() string {
	start := p.pos
	for !p.end() {
		switch p.text[p.pos] {
		case ' ', '\t', '\r', '\n', ',', '(', ')', '=', '!', '<', '>':
			return p.text[start:p.pos]
		}
		p.pos++
	}
	return p.text[start:]
}

func (p *parser) take(s string) bool {
	if len(p.text)-p.pos < len(s) || p.text[p.pos:p.pos+len(s)] != s {
		return false
	}
	p.pos += len(s)
	return true
}

func (p *parser) space() {
	for !p.end() {
		switch p.text[p.pos] {
		case ' ', '\t', '\r', '\n':
			p.pos++
		default:
			return
		}
	}
}

func (p *parser) end() bool { return p.pos >= len(p.text) }

func (p *parser) want(what string) error {
	return &SyntaxError{Text: p.text, Pos: p.pos, Want: what}
}
