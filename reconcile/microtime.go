// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"encoding/json"
	"fmt"
	"time"
)

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
