// SPDX-License-Identifier: Apache-2.0

package store

import (
	"log/slog"
	"time"
)

// Options configure an engine that keeps its objects in this process: package
// memory, package memdb. The zero value works.
type Options struct {
	History   History
	Mutations Mutations
	// Logger gets what no caller can be told, such as a lease that could not be
	// ended yet; nil discards it.
	Logger *slog.Logger
}

// History bounds the history window: what of the past can be read and watched.
// Whichever bound is reached first counts.
type History struct {
	// Revisions is how many revisions before the latest are kept. 0 means 65,536;
	// a negative number, as many as the other bounds allow.
	Revisions int
	// Age is how long a revision is kept after the next one replaced it, checked
	// at each commit to within 1/64 of it; 0 means for ever.
	Age time.Duration
	// Bytes is how much memory the versions that are no longer present may take,
	// as the kind estimates it (Kind.Size) or by reflection; 0 means any amount.
	// It is kept to within one block of 128 events for each kind.
	Bytes int64
}

// Mutations says whether a store watches for callers who change objects that
// they share with it. It costs a copy and a comparison for each write, and
// doubles the memory; one who is found out makes the store panic.
type Mutations int

const (
	// DetectInTests watches in programs built by "go test", and not in others.
	DetectInTests Mutations = iota
	// DetectAlways watches.
	DetectAlways
	// DetectNever does not: for benchmarks, say.
	DetectNever
)
