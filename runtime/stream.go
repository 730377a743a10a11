// SPDX-License-Identifier: Apache-2.0

package runtime

import "io"

// MaxExecOutput is how much of each stream ExecSync returns: 16 MiB, as in CRI.
// What a command writes beyond that is read and dropped.
const MaxExecOutput = 16 << 20

// ExecResult is what a command left behind.
type ExecResult struct {
	Stdout, Stderr []byte
	ExitCode       int // 128 + n after signal n
}

// ExecOptions says what to run in a container, and with which streams. A nil
// stream is empty or discarded. The runtime reads Stdin until the command has exited;
// a Read that blocks then may outlive the call, so close what stands behind it.
type ExecOptions struct {
	Command        []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer // with TTY everything goes to Stdout
	TTY            bool
	Resize         <-chan TerminalSize // nil: never; closing it ends nothing
}

// AttachOptions says which streams of a container to connect. Nil streams are left alone.
// Stdin needs a container that was configured with one.
type AttachOptions struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            bool
	Resize         <-chan TerminalSize
}

// TerminalSize is the size of a terminal in characters.
type TerminalSize struct {
	Width, Height uint16
}
