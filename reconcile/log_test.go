// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"log/slog"
	"strings"
	"sync"
)

// logText keeps what is logged.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logText) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// count returns how often a text was logged.
func (l *logText) count(text string) int { return strings.Count(l.String(), text) }
