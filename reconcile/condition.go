// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway-dev/slipway/internal/labels"
	"github.com/slipway-dev/slipway/store"
)

// ConditionStatus is the status of a [Condition].
type ConditionStatus string

// The statuses.
const (
	ConditionTrue    ConditionStatus = "True"
	ConditionFalse   ConditionStatus = "False"
	ConditionUnknown ConditionStatus = "Unknown"
)

// Condition is one aspect of an object's state, with the JSON of Kubernetes'
// metav1.Condition
// (https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#typical-status-properties).
// A status has a slice of them, at most one of each type.
//
// The protobuf tags make it the same struct as Kubernetes', so that the
// functions here take either.
type Condition struct {
	// Type names the aspect in CamelCase, such as "Ready".
	Type   string          `json:"type" protobuf:"bytes,1,opt,name=type"`
	Status ConditionStatus `json:"status" protobuf:"bytes,2,opt,name=status"`
	// ObservedGeneration is the generation of the object that was looked at: if it
	// is behind the object's, the condition is out of date. 0: not said.
	ObservedGeneration int64 `json:"observedGeneration,omitempty" protobuf:"varint,3,opt,name=observedGeneration"`
	// LastTransitionTime is when Status last changed. [SetCondition] keeps it.
	LastTransitionTime store.Time `json:"lastTransitionTime" protobuf:"bytes,4,opt,name=lastTransitionTime"`
	// Reason says why in one CamelCase word, for programs.
	Reason string `json:"reason" protobuf:"bytes,5,opt,name=reason"`
	// Message says why, for people. It may be empty.
	Message string `json:"message" protobuf:"bytes,6,opt,name=message"`
}

// conditionStruct is the underlying type of [Condition] and of metav1.Condition,
// for some types of status and time: a constraint must repeat the tags.
type conditionStruct[S ~string, TS conditionTime] interface {
	~struct {
		Type               string `json:"type" protobuf:"bytes,1,opt,name=type"`
		Status             S      `json:"status" protobuf:"bytes,2,opt,name=status"`
		ObservedGeneration int64  `json:"observedGeneration,omitempty" protobuf:"varint,3,opt,name=observedGeneration"`
		LastTransitionTime TS     `json:"lastTransitionTime" protobuf:"bytes,4,opt,name=lastTransitionTime"`
		Reason             string `json:"reason" protobuf:"bytes,5,opt,name=reason"`
		Message            string `json:"message" protobuf:"bytes,6,opt,name=message"`
	}
}

// conditionTime is the underlying type of [store.Time] or metav1.Time.
type conditionTime interface {
	~struct{ time.Time } | ~struct {
		time.Time `protobuf:"-"`
	}
}

// A conversion between struct types ignores tags, so these two suffice inside.
type (
	conditionBox[S ~string, TS conditionTime] struct {
		Type               string
		Status             S
		ObservedGeneration int64
		LastTransitionTime TS
		Reason             string
		Message            string
	}
	conditionTimeBox struct{ time.Time }
)

// SetCondition sets the condition of c's type in the slice, in memory, and reports whether
// that changed anything. The slice is []Condition or Kubernetes'
// []metav1.Condition; what it refers to must be the caller's own.
//
//	changed, err := reconcile.SetCondition(&backup.Status.Conditions, reconcile.Condition{
//		Type: "Ready", Status: reconcile.ConditionTrue, Reason: "Finished", ObservedGeneration: backup.Generation,
//	})
//
// The time of the last transition moves only when the status changes: to c's, if
// it has one, else to now, in whole seconds. A condition keeps its place in the
// slice, and a new one goes to the end, so that the same conditions never make
// another object.
//
// A type that is no qualified name, a status that is none of the three, or a
// reason that is no CamelCase word is [store.ErrInvalid], and changes nothing.
func SetCondition[C conditionStruct[S, TS], S ~string, TS conditionTime](conditions *[]C, c C) (changed bool, err error) {
	if conditions == nil {
		return false, store.Invalidf("condition: the slice is nil: pass a pointer to that of the status")
	}
	want := conditionBox[S, TS](c)
	if err := validateCondition(want.Type, string(want.Status), want.Reason, want.Message); err != nil {
		return false, err
	}
	i := conditionIndex(*conditions, want.Type)
	if i < 0 {
		want.LastTransitionTime = transition(want.LastTransitionTime)
		*conditions = append(*conditions, C(want))
		return true, nil
	}
	have := conditionBox[S, TS]((*conditions)[i])
	if have.Status != want.Status {
		want.LastTransitionTime = transition(want.LastTransitionTime)
	} else {
		want.LastTransitionTime = have.LastTransitionTime
	}
	if have == want { // the time is have's own
		return false, nil
	}
	(*conditions)[i] = C(want)
	return true, nil
}

// RemoveCondition removes the condition of the type, in memory, and reports whether there
// was one.
func RemoveCondition[C conditionStruct[S, TS], S ~string, TS conditionTime](conditions *[]C, typ string) (removed bool) {
	if conditions == nil {
		return false
	}
	i := conditionIndex(*conditions, typ)
	if i < 0 {
		return false
	}
	*conditions = slices.Delete(*conditions, i, i+1)
	return true
}

// FindCondition returns the condition of the type, if there is one.
func FindCondition[C conditionStruct[S, TS], S ~string, TS conditionTime](conditions []C, typ string) (c C, ok bool) {
	if i := conditionIndex(conditions, typ); i >= 0 {
		return conditions[i], true
	}
	return c, false
}

// IsTrue reports whether the condition of the type is true: one that is not there
// is not.
func IsTrue[C conditionStruct[S, TS], S ~string, TS conditionTime](conditions []C, typ string) bool {
	i := conditionIndex(conditions, typ)
	return i >= 0 && string(conditionBox[S, TS](conditions[i]).Status) == string(ConditionTrue)
}

func conditionIndex[C conditionStruct[S, TS], S ~string, TS conditionTime](conditions []C, typ string) int {
	return slices.IndexFunc(conditions, func(c C) bool { return conditionBox[S, TS](c).Type == typ })
}

// transition returns the time of a transition: the one given, or now. JSON has
// whole seconds, so that a time that was stored and read is the same.
func transition[TS conditionTime](given TS) TS {
	if !conditionTimeBox(given).IsZero() {
		return given
	}
	return TS(conditionTimeBox{time.Now().UTC().Truncate(time.Second)})
}

// The limits of metav1.Condition, in bytes.
const (
	maxConditionReason  = 1024
	maxConditionMessage = 32768
)

func validateCondition(typ, status, reason, message string) error {
	if typ == "" {
		return store.Invalidf("condition: the type is empty: want a name such as Ready")
	}
	if labels.ValidateKey(typ) != nil {
		return store.Invalidf("condition type %q: want a name such as Ready or example.com/Ready", typ)
	}
	fail := func(format string, args ...any) error {
		return store.Invalidf("condition %s: %w", typ, fmt.Errorf(format, args...))
	}
	switch ConditionStatus(status) {
	case ConditionTrue, ConditionFalse, ConditionUnknown:
	default:
		return fail("status %q: want True, False or Unknown", status)
	}
	if !isReason(reason) || len(reason) > maxConditionReason {
		return fail("reason %.40q: want one CamelCase word of at most %d bytes, such as Finished", reason, maxConditionReason)
	}
	if len(message) > maxConditionMessage {
		return fail("the message has %d bytes: want at most %d", len(message), maxConditionMessage)
	}
	return nil
}

// isReason reports whether the text is a reason as Kubernetes' validation of
// conditions defines it: a letter, then letters, digits, '_', ',' and ':', the
// last two not at the end.
func isReason(text string) bool {
	for i, c := range []byte(text) {
		switch {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
		case i > 0 && (c >= '0' && c <= '9' || c == '_'):
		case i > 0 && i < len(text)-1 && strings.IndexByte(",:", c) >= 0:
		default:
			return false
		}
	}
	return text != ""
}
