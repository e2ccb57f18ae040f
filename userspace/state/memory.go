package state

import (
	"context"
	"maps"
	"sync"
	"time"
)

// A Memory is a Store that ends with the process.
type Memory struct {
	mu        sync.Mutex
	head      Head
	entries   map[uint64]Entry
	documents map[string][]byte
	kept      map[string]keptData
}

type keptData struct {
	At   time.Time `json:"at"`
	Data []byte    `json:"data"`
}

// NewMemory returns an empty one.
func NewMemory() *Memory {
	return &Memory{entries: map[uint64]Entry{}, documents: map[string][]byte{}, kept: map[string]keptData{}}
}

func (m *Memory) Head(context.Context) (Head, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.head, nil
}

func (m *Memory) Append(_ context.Context, h Head, entries []Entry, documents map[string][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		m.entries[e.Number] = e
	}
	for n := max(m.head.First, 1); n < h.First; n++ {
		delete(m.entries, n)
	}
	maps.Copy(m.documents, documents)
	maps.DeleteFunc(m.documents, func(digest string, _ []byte) bool { return !h.has(digest) })
	m.head = h
	return nil
}

func (m *Memory) Entries(_ context.Context, first, last uint64) (all []Entry, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n := first; n <= last; n++ {
		if e, ok := m.entries[n]; ok {
			all = append(all, e)
		}
	}
	return all, nil
}

func (m *Memory) Document(_ context.Context, digest string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.documents[digest]
	if !ok {
		return nil, errNoDocument
	}
	return data, nil
}

func (m *Memory) Keep(_ context.Context, name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept[name] = keptData{time.Now(), data}
	return nil
}

func (m *Memory) Kept(_ context.Context, name string) ([]byte, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.kept[name]
	return k.Data, k.At, nil
}

// Most implements [Store].
func (m *Memory) Most() int { return DefaultLimit }

func (m *Memory) Close() error { return nil }
