// SPDX-License-Identifier: Apache-2.0

package runtime

import "time"

// ImageSpec names an image.
type ImageSpec struct {
	Image          string
	RuntimeHandler string // empty is the default
}

// AuthConfig is what a registry wants to know.
type AuthConfig struct {
	Username, Password           string
	ServerAddress                string
	IdentityToken, RegistryToken string
}

// Image is one image that is present.
type Image struct {
	ID          string
	RepoTags    []string // name:tag
	RepoDigests []string // name@digest
	Size        uint64   // bytes
	User        string   // as whom its containers run, empty for root
	Pinned      bool     // garbage collection leaves it alone
}

// FilesystemUsage is what one file system holds.
type FilesystemUsage struct {
	Timestamp  time.Time
	Mountpoint string
	UsedBytes  uint64 // by the runtime
	InodesUsed uint64
	// The whole file system, zero if not known.
	CapacityBytes, AvailableBytes uint64
	CapacityInodes, FreeInodes    uint64
}
