// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Services are the key-value services that can be backed up: what the operator
// knows of the world outside of the store.
type Services interface {
	// Dump returns what the service holds.
	Dump(ctx context.Context, service string) ([]byte, error)
}

// Vault keeps copies. Its methods may be called again for what is done already.
type Vault interface {
	Put(ctx context.Context, path string, data []byte) error
	Remove(ctx context.Context, path string) error
}

// ErrDown is the error of a service that does not answer.
var ErrDown = errors.New("the service does not answer")

// MemoryServices are key-value services in memory, for the example and its test.
type MemoryServices struct {
	mu   sync.Mutex
	data map[string]map[string]string
	down bool
}

// Set sets a key of a service, which it makes if it is not there.
func (s *MemoryServices) Set(service, key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.data == nil {
		s.data = map[string]map[string]string{}
	}
	if s.data[service] == nil {
		s.data[service] = map[string]string{}
	}
	s.data[service][key] = value
}

// SetDown makes every service fail, or answer again.
func (s *MemoryServices) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// Dump implements [Services].
func (s *MemoryServices) Dump(_ context.Context, service string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, fmt.Errorf("dump %s: %w", service, ErrDown)
	}
	var b bytes.Buffer
	for _, key := range slices.Sorted(maps.Keys(s.data[service])) {
		fmt.Fprintf(&b, "%s=%s\n", key, s.data[service][key])
	}
	return b.Bytes(), nil
}

// MemoryVault keeps copies in memory, for the example and its test.
type MemoryVault struct {
	mu     sync.Mutex
	copies map[string][]byte
}

// Put implements [Vault].
func (v *MemoryVault) Put(_ context.Context, path string, data []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.copies == nil {
		v.copies = map[string][]byte{}
	}
	v.copies[path] = data
	return nil
}

// Remove implements [Vault].
func (v *MemoryVault) Remove(_ context.Context, path string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.copies, path)
	return nil
}

// Paths returns what is in the vault, in order.
func (v *MemoryVault) Paths() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Sorted(maps.Keys(v.copies))
}
