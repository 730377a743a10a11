// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"github.com/slipway-dev/slipway/store"
)

// EventType is the type of an [Event].
type EventType string

// The types of events.
const (
	// EventNormal is for information.
	EventNormal EventType = "Normal"
	// EventWarning is for what people may have to do something about.
	EventWarning EventType = "Warning"
)

// Event tells people what happened to an object, with the JSON of Kubernetes'
// core/v1 Event
// (https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/).
// A [Recorder] writes them.
type Event struct {
	store.Meta          `json:"metadata"`
	InvolvedObject      ObjectReference  `json:"involvedObject"`
	Reason              string           `json:"reason,omitempty"`
	Message             string           `json:"message,omitempty"`
	Source              EventSource      `json:"source,omitzero"`
	FirstTimestamp      store.Time       `json:"firstTimestamp,omitzero"`
	LastTimestamp       store.Time       `json:"lastTimestamp,omitzero"`
	Count               int32            `json:"count,omitempty"`
	Type                EventType        `json:"type,omitempty"`
	EventTime           MicroTime        `json:"eventTime,omitzero"`
	Series              *EventSeries     `json:"series,omitempty"`
	Action              string           `json:"action,omitempty"`
	Related             *ObjectReference `json:"related,omitempty"`
	ReportingController string           `json:"reportingComponent"` // two names for one thing, as in Kubernetes
	ReportingInstance   string           `json:"reportingInstance"`
}

// DeepCopy returns a copy that shares nothing with e.
func (e *Event) DeepCopy() *Event {
	c := *e
	c.Meta = e.Clone()
	if e.Series != nil {
		c.Series = new(*e.Series)
	}
	if e.Related != nil {
		c.Related = new(*e.Related)
	}
	return &c
}

// EventSource says who recorded an event.
type EventSource struct {
	Component string `json:"component,omitempty"`
	Host      string `json:"host,omitempty"`
}

// EventSeries counts an event that goes on, in the newer form of Kubernetes'
// events. A [Recorder] counts in the event itself.
type EventSeries struct {
	Count            int32     `json:"count,omitempty"`
	LastObservedTime MicroTime `json:"lastObservedTime,omitzero"`
}

// ObjectReference names an object.
type ObjectReference struct {
	Kind            string `json:"kind,omitempty"`
	Namespace       string `json:"namespace,omitempty"`
	Name            string `json:"name,omitempty"`
	UID             string `json:"uid,omitempty"`
	APIVersion      string `json:"apiVersion,omitempty"`
	ResourceVersion string `json:"resourceVersion,omitempty"`
	FieldPath       string `json:"fieldPath,omitempty"`
}

// ReferenceTo returns a reference to an object of the kind.
func ReferenceTo(s *store.Schema, obj store.Object) ObjectReference {
	return ObjectReference{
		Kind: s.Name, APIVersion: s.APIVersion(), Namespace: obj.GetNamespace(), Name: obj.GetName(),
		UID: uidOf(s, obj), ResourceVersion: obj.GetResourceVersion(),
	}
}

// EventKind is the kind of events, to be registered in the store that a [Recorder]
// writes to. Ask for those about an object with [EventsAbout].
func EventKind() store.Kind[*Event] {
	return store.Kind[*Event]{Name: "Event", Version: "v1", Indexes: []*store.Index[*Event]{eventAbout}}
}

var eventAbout = store.NewIndex("involvedObject.uid", func(e *Event) string { return e.InvolvedObject.UID })

// EventsAbout selects the events about the object of the UID.
func EventsAbout(uid string) store.FieldSelector { return eventAbout.Is(uid) }
