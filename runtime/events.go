// SPDX-License-Identifier: Apache-2.0

package runtime

import "time"

// EventType says what happened to a container.
type EventType string

// The events of CRI.
const (
	EventCreated EventType = "Created"
	EventStarted EventType = "Started"
	EventStopped EventType = "Stopped"
	EventDeleted EventType = "Deleted"
)

// ContainerEvent says that something happened to a container. It carries names, not state: who
// wants the state asks for it, and gets the newest.
type ContainerEvent struct {
	Type        EventType
	ContainerID string
	SandboxID   string
	PodUID      string
	Time        time.Time
}
