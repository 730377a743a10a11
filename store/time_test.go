// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/store"
)

func TestTimeJSON(t *testing.T) {
	at := time.Date(2026, 7, 1, 12, 30, 45, 0, time.UTC)
	for _, test := range []struct {
		name string
		time time.Time
		want string
	}{
		{"zero", time.Time{}, `null`},
		{"whole seconds", at, `"2026-07-01T12:30:45Z"`},
		{"nanoseconds", at.Add(999_999_999), `"2026-07-01T12:30:45Z"`},
		{"another zone", at.In(time.FixedZone("", 2*3600+1800)), `"2026-07-01T12:30:45Z"`},
		{"a zone with seconds", at.In(time.FixedZone("", 17)), `"2026-07-01T12:30:45Z"`},
		{"the last second", time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), `"9999-12-31T23:59:59Z"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := json.Marshal(store.Time{Time: test.time})
			if err != nil || string(got) != test.want {
				t.Fatalf("Marshal = %s, %v, want %s", got, err, test.want)
			}
			back := store.Time{Time: at}
			if err := json.Unmarshal(got, &back); err != nil || !back.Equal(test.time.Truncate(time.Second)) {
				t.Errorf("Unmarshal(%s) = %v, %v, want %v", got, back, err, test.time)
			}
		})
	}
}

func TestTimeJSONErrors(t *testing.T) {
	for _, year := range []int{-1, 10000} {
		if text, err := json.Marshal(store.Time{Time: time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)}); err == nil {
			t.Errorf("year %d: Marshal = %s, want an error", year, text)
		}
	}
	for _, text := range []string{`1`, `""`, `"yesterday"`, `"2026-07-01 12:30:45Z"`, `{}`} {
		var got store.Time
		if err := json.Unmarshal([]byte(text), &got); err == nil {
			t.Errorf("Unmarshal(%s) = %v, want an error", text, got)
		}
	}
}

func TestTimeReadsFractionsAndZones(t *testing.T) {
	var got store.Time
	if err := json.Unmarshal([]byte(`"2026-07-01T12:30:45.5+02:00"`), &got); err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2026, 7, 1, 10, 30, 45, 5e8, time.UTC); got.Time != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
