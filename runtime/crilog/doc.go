// SPDX-License-Identifier: Apache-2.0

// Package crilog writes and reads container logs in the format of CRI, the one
// in which `kubectl logs` expects them
// (https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md):
//
//	2026-10-06T00:17:09.669794202Z stdout F a whole line
//	2026-10-06T00:17:09.669794203Z stderr P the first part of a line
//
// Writing:
//
//	log, err := crilog.Open("/var/log/web.log")
//	_, err = log.Stream("stdout").Write([]byte("hello\n"))
//
// Reading, also while the file is written to and rotated:
//
//	for entry, err := range crilog.Read(ctx, "/var/log/web.log", crilog.ReadOptions{Follow: true}) {
//		...
//	}
//
// A tag P marks what is not the end of a line: a part of a line longer than
// [MaxLine], or a last line that the program did not end. So the
// bytes that a program wrote can be put together again exactly.
//
// Rotation is a rename of the file followed by [Log.Reopen]: entries are written by one
// write call each batch, so that none is split between the files.
//
// A full disk never stops the program whose output this is. What could not be
// written is counted, the file ends with a whole entry, and when there is room again an entry on
// stderr says how many bytes are missing.
package crilog
