// SPDX-License-Identifier: Apache-2.0

package memdb

import (
	"fmt"
	"strings"

	"github.com/hashicorp/go-memdb"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/internal/core"
)

// table keeps the entries of one kind in a go-memdb database of one table. The
// changes of a commit are one transaction, which View commits.
type table struct {
	schema *store.Schema
	db     *memdb.MemDB
	txn    *memdb.Txn // the commit in progress, or nil
}

// view is the database at one moment.
type view struct {
	schema *store.Schema
	txn    *memdb.Txn // for reading
}

const (
	tableName = "objects"
	idIndex   = "id"
)

func newTable(schema *store.Schema) core.Table {
	indexes := map[string]*memdb.IndexSchema{
		idIndex: {Name: idIndex, Unique: true, Indexer: keyIndexer{}},
	}
	for i := range schema.Indexes {
		indexes[indexName(i)] = &memdb.IndexSchema{
			Name:         indexName(i),
			Unique:       true, // the key is part of the value: the order within a value is ours
			AllowMissing: true,
			Indexer:      valueIndexer{schema.Indexes[i]},
		}
	}
	db, err := memdb.NewMemDB(&memdb.DBSchema{Tables: map[string]*memdb.TableSchema{
		tableName: {Name: tableName, Indexes: indexes},
	}})
	if err != nil {
		panic("store: go-memdb refuses the schema: " + err.Error()) // it is made here, so it is right
	}
	return &table{schema: schema, db: db}
}

// indexName keeps the names of the kind's indexes apart from our own.
func indexName(i int) string { return fmt.Sprint("index-", i) }

// Current implements [core.Table].
func (t *table) Current(key store.Key) *core.Entry {
	if t.txn != nil {
		return first(t.txn, key)
	}
	return first(t.db.Txn(false), key)
}

// Latest implements [core.Table]: there is no faster way than the view.
func (t *table) Latest(store.Key) (*core.Entry, bool) { return nil, false }

// Replace implements [core.Table].
func (t *table) Replace(old, next *core.Entry) {
	if t.txn == nil {
		t.txn = t.db.Txn(true)
	}
	var err error
	if next != nil {
		err = t.txn.Insert(tableName, next)
	} else {
		err = t.txn.Delete(tableName, old)
	}
	must(err)
}

// View implements [core.Table].
func (t *table) View() core.View {
	if t.txn != nil {
		t.txn.Commit()
		t.txn = nil
	}
	return &view{t.schema, t.db.Txn(false)}
}

// Get implements [core.View].
func (v *view) Get(key store.Key) *core.Entry { return first(v.txn, key) }

// Len implements [core.View]. go-memdb keeps no count, so it walks the table.
func (v *view) Len() int {
	n := 0
	v.Ascend("", store.Key{}, func(*core.Entry) bool {
		n++
		return true
	})
	return n
}

// Ascend implements [core.View].
func (v *view) Ascend(namespace string, from store.Key, yield func(*core.Entry) bool) {
	if start := (store.Key{Namespace: namespace}); from.Compare(start) < 0 {
		from = start
	}
	it, err := v.txn.LowerBound(tableName, idIndex, from)
	must(err)
	for e := it.Next(); e != nil; e = it.Next() {
		entry := e.(*core.Entry)
		if namespace != "" && entry.Key.Namespace != namespace || !yield(entry) {
			return
		}
	}
}

// AscendIndex implements [core.View].
func (v *view) AscendIndex(i int, value string, from store.Key, yield func(*core.Entry) bool) {
	it, err := v.txn.LowerBound(tableName, indexName(i), value, from)
	must(err)
	x := &v.schema.Indexes[i]
	last, any := from, false
	for e := it.Next(); e != nil; e = it.Next() {
		entry := e.(*core.Entry)
		// After the value come the entries of the next, which may have this one too:
		// then they were here before, and the order of the keys is broken.
		c := entry.Key.Compare(last)
		if c < 0 || c == 0 && any || !x.Has(entry.Object, value) || !yield(entry) {
			return
		}
		last, any = entry.Key, true
	}
}

func first(txn *memdb.Txn, key store.Key) *core.Entry {
	e, err := txn.First(tableName, idIndex, key)
	must(err)
	if e == nil {
		return nil
	}
	return e.(*core.Entry)
}

// must stops the program on an error of go-memdb, which says that this package
// has misused it: there is no other kind.
func must(err error) {
	if err != nil {
		panic("store: go-memdb: " + err.Error())
	}
}

// keyIndexer indexes entries by key. It orders as [store.Key.Compare] does: no
// name holds a zero byte, so that one ends each part.
type keyIndexer struct{}

func appendKey(b []byte, key store.Key) []byte {
	b = append(b, key.Namespace...)
	b = append(b, 0)
	b = append(b, key.Name...)
	return append(b, 0)
}

func (keyIndexer) FromArgs(args ...any) ([]byte, error) {
	return appendKey(nil, args[0].(store.Key)), nil
}

func (keyIndexer) FromObject(o any) (bool, []byte, error) {
	return true, appendKey(nil, o.(*core.Entry).Key), nil
}

// valueIndexer indexes entries by the values of one of the kind's indexes, and
// by key within a value. Values may hold any byte, so a zero byte in them is
// escaped.
type valueIndexer struct{ index store.SchemaIndex }

var zeroEscaper = strings.NewReplacer("\x00", "\x00\xff")

func appendValue(value string, key store.Key) []byte {
	b := append([]byte(zeroEscaper.Replace(value)), 0, 0)
	return appendKey(b, key)
}

func (valueIndexer) FromArgs(args ...any) ([]byte, error) {
	return appendValue(args[0].(string), args[1].(store.Key)), nil
}

func (x valueIndexer) FromObject(o any) (bool, [][]byte, error) {
	e := o.(*core.Entry)
	if x.index.One != nil {
		return true, [][]byte{appendValue(x.index.One(e.Object), e.Key)}, nil
	}
	var all [][]byte
	for _, value := range x.index.Many(e.Object) {
		all = append(all, appendValue(value, e.Key))
	}
	return len(all) > 0, all, nil
}
