// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver"
	"github.com/slipway-dev/slipway/store/memory"
)

const mergePatch = "Content-Type: application/merge-patch+json"

func TestWatch(t *testing.T) {
	f := seeded(t, 2, apiserver.Options{Bookmarks: 50 * time.Millisecond})
	rv := f.do("GET", backupsPath, "").get("metadata.resourceVersion")
	fromStart := f.watch(backupsPath + "?watch=true")
	fromStart.want("ADDED b000", "ADDED b001")
	now := f.watch(backupsPath + "?watch=true&resourceVersion=" + rv)
	odd := f.watch(backupsPath + "?watch=true&labelSelector=odd%3D1&resourceVersion=" + rv)
	one := f.watch(backupsPath + "/b000?watch=true&resourceVersion=" + rv)
	f.want(f.do("PATCH", backupsPath+"/b000", `{"metadata":{"labels":{"odd":"1"}}}`, mergePatch), 200)
	f.want(f.do("PATCH", backupsPath+"/b001", `{"metadata":{"labels":{"odd":"0"}}}`, mergePatch), 200)
	f.want(f.do("DELETE", backupsPath+"/b000", ""), 200)
	now.want("MODIFIED b000", "MODIFIED b001", "DELETED b000")
	fromStart.want("MODIFIED b000", "MODIFIED b001", "DELETED b000")
	one.want("MODIFIED b000", "DELETED b000")
	odd.want("ADDED b000")
	gone, event := odd.next()
	if event != "DELETED b001" || gone.get("object.metadata.labels.odd") != "1" || gone.get("object.metadata.resourceVersion") <= rv {
		t.Errorf("what no longer matches: %s %s, want it as it last matched, at the revision of the change", event, gone.body)
	}
	odd.want("DELETED b000")

	marks := f.watch(backupsPath + "?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan")
	marks.want("ADDED b001")
	end, _ := marks.next()
	if end.get("type") != "BOOKMARK" || !strings.Contains(string(end.body), `"k8s.io/initial-events-end":"true"`) {
		t.Errorf("end of the initial events: %s", end.body)
	}
	mark, _ := marks.next()
	if mark.get("type") != "BOOKMARK" || mark.get("object.kind") != "Backup" || mark.get("object.metadata.resourceVersion") == "<none>" {
		t.Errorf("bookmark: %s", mark.body)
	}
}

func TestWatchShapes(t *testing.T) {
	f := seeded(t, 1, apiserver.Options{})
	w := f.watch(backupsPath+"?watch=true", "Accept: application/json;as=Table;v=v1;g=meta.k8s.io")
	first, _ := w.next()
	if first.get("object.kind") != "Table" || first.get("object.columnDefinitions.0.name") != "Name" || first.get("object.rows.0.cells.0") != "b000" {
		t.Errorf("first event of a table: %s", first.body)
	}
	f.want(f.do("PATCH", backupsPath+"/b000", `{"spec":{"keep":2}}`, mergePatch), 200)
	if second, _ := w.next(); second.get("object.columnDefinitions") != "<none>" {
		t.Errorf("second event of a table: %s", second.body)
	}
	m := f.watch(backupsPath+"?watch=true", "Accept: application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")
	if a, _ := m.next(); a.get("object.kind") != "PartialObjectMetadata" {
		t.Errorf("metadata: %s", a.body)
	}
}

func TestWatchEnds(t *testing.T) {
	f := newFixture(t, apiserver.Options{}, memory.Options{History: store.History{Revisions: 5}})
	first := f.want(f.do("POST", backupsPath, backupJSON("x", `{}`)), 201).get("metadata.resourceVersion")
	for i := range 10 {
		f.want(f.do("PATCH", backupsPath+"/x", fmt.Sprintf(`{"spec":{"keep":%d}}`, i+2), mergePatch), 200)
	}
	old := f.watch(backupsPath + "?watch=true&resourceVersion=" + first)
	a, _ := old.next()
	if a.get("type") != "ERROR" || a.get("object.code") != "410" || a.get("object.reason") != "Expired" {
		t.Errorf("watch from before the history: %s", a.body)
	}
	old.want("EOF")
	begun := time.Now()
	f.watch(backupsPath+"?watch=true&resourceVersion=0&timeoutSeconds=1").want("ADDED x", "EOF")
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("a watch of one second took %v", took)
	}
	w := f.watch(backupsPath + "?watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan")
	f.server.Drain()
	w.want("EOF")
	f.want(f.do("GET", backupsPath+"?watch=true", ""), 503, "shutting down")
	f.want(f.do("GET", "/readyz", ""), 500, "[-]shutdown failed")
}

// TestSlowWatcher: a client that never reads is cut off, and the others do not
// notice.
func TestSlowWatcher(t *testing.T) {
	f := newFixture(t, apiserver.Options{Limits: apiserver.Limits{Write: 300 * time.Millisecond}})
	f.want(f.do("POST", backupsPath, backupJSON("x", `{"source":"`+strings.Repeat("x", 100<<10)+`"}`)), 201)
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET %s?watch=true HTTP/1.1\r\nHost: x\r\n\r\n", backupsPath); err != nil {
		t.Fatal(err)
	}
	good := f.watch(backupsPath + "?watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan")
	watches := func(n string) bool {
		return strings.Contains(string(f.do("GET", "/metrics", "").body), `apiserver_longrunning_requests{verb="WATCH"} `+n+"\n")
	}
	for i := 0; !watches("1"); i++ {
		if i == 200 {
			t.Fatal("the client that does not read still has its watch")
		}
		f.want(f.do("PATCH", backupsPath+"/x", fmt.Sprintf(`{"spec":{"keep":%d}}`, i%90+2), mergePatch), 200)
		good.want("MODIFIED x")
		time.Sleep(10 * time.Millisecond)
	}
}

// TestIdleWatch: that a client must take what it is sent within a time does not
// mean that something must be sent all the time.
func TestIdleWatch(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprint("http2=", http2), func(t *testing.T) {
			f := newFixture(t, apiserver.Options{Limits: apiserver.Limits{Write: 100 * time.Millisecond}})
			h := httptest.NewUnstartedServer(f.server)
			h.EnableHTTP2 = http2
			h.StartTLS()
			t.Cleanup(func() { h.CloseClientConnections(); h.Close() })
			f.url, f.client = h.URL, h.Client()
			f.want(f.do("POST", backupsPath, backupJSON("x", `{}`)), 201)
			w := f.watch(backupsPath + "?watch=true")
			w.want("ADDED x")
			time.Sleep(300 * time.Millisecond)
			f.want(f.do("DELETE", backupsPath+"/x", ""), 200)
			w.want("DELETED x")
		})
	}
}
