// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"encoding/json"
	"fmt"
	"time"

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

// MicroTime is an instant with the JSON of Kubernetes' metav1.MicroTime: RFC 3339
// in UTC with microseconds; null where it is zero.
type MicroTime struct{ time.Time }

const microLayout = "2006-01-02T15:04:05.000000Z07:00"

// MarshalJSON returns the instant as text. A year before 0 or after 9999, which
// RFC 3339 can't express, is an error.
func (t MicroTime) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	utc := t.UTC()
	if y := utc.Year(); y < 0 || y > 9999 {
		return nil, fmt.Errorf("reconcile: time in the year %d: RFC 3339 has the years 0 to 9999", y)
	}
	return []byte(`"` + utc.Format(microLayout) + `"`), nil
}

// UnmarshalJSON reads what MarshalJSON writes, and any other RFC 3339 time.
func (t *MicroTime) UnmarshalJSON(data []byte) error {
	var text *string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	if text == nil {
		*t = MicroTime{}
		return nil
	}
	parsed, err := time.Parse(time.RFC3339, *text) // takes a fraction, too
	if err != nil {
		return err
	}
	t.Time = parsed.UTC()
	return nil
}
