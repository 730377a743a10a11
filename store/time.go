// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"fmt"
	"time"
)

// Time is an instant with the JSON of Kubernetes' metav1.Time: RFC 3339 in UTC,
// in whole seconds, whatever the zone and the precision that it has in memory;
// null where it is zero. It exists because a [time.Time] writes its zone and its
// nanoseconds.
type Time struct{ time.Time }

// MarshalJSON returns the instant as text. A year before 0 or after 9999, which
// RFC 3339 can't express, is an error.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	utc := t.UTC()
	if y := utc.Year(); y < 0 || y > 9999 {
		return nil, fmt.Errorf("store: time in the year %d: RFC 3339 has the years 0 to 9999", y)
	}
	return utc.AppendFormat(make([]byte, 0, len(`"2006-01-02T15:04:05Z"`)), `"`+time.RFC3339+`"`), nil
}

// UnmarshalJSON reads what MarshalJSON writes, and any other RFC 3339 time: zone
// and fraction are kept as the instant, which is then in UTC.
func (t *Time) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*t = Time{}
		return nil
	}
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	parsed, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return err
	}
	t.Time = parsed.UTC()
	return nil
}
