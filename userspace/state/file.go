package state

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

	"fairlead/internal/crashpoint"
)

const (
	fileName = "state.db"
	lockName = "state.lock"
)

// The buckets of the file.
var (
	bucketMeta      = []byte("meta")
	bucketEntries   = []byte("entries")
	bucketDocuments = []byte("documents")
	bucketKept      = []byte("kept")
	buckets         = [][]byte{bucketMeta, bucketEntries, bucketDocuments, bucketKept}
	keyHead         = []byte("head")
)

var (
	errBroken     = errors.New("it is broken")
	errNoDocument = fmt.Errorf("%w: a document is missing", errBroken)
)

// A File is a Store in a file.
type File struct {
	db   *bolt.DB
	lock *os.File
}

// OpenFile opens the store in a directory, which it makes if it is not there. What
// cannot be read it keeps aside and begins anew: broken says so, and is nil otherwise.
// The error wraps [ErrInUse] while another process has the store.
func OpenFile(dir string) (f *File, broken error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("open state: %w; use another --state-dir, or off", err)
	}
	f = &File{}
	if f.lock, err = lock(filepath.Join(dir, lockName)); err != nil {
		return nil, nil, err
	}
	path := filepath.Join(dir, fileName)
	content, err := readFile(path)
	if errors.Is(err, errBroken) {
		aside := path + ".broken-" + time.Now().UTC().Format("20060102T150405.000Z")
		if rerr := os.Rename(path, aside); rerr != nil {
			return nil, nil, errors.Join(fmt.Errorf("open state: %w", rerr), f.lock.Close())
		}
		broken = fmt.Errorf("read %s: %w; it is kept as %s", path, err, aside)
		content, err = nil, nil
	}
	if err == nil {
		f.db, err = rewrite(path, content)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open state: %w; use another --state-dir, or off", err), f.lock.Close())
	}
	return f, broken, nil
}

// lock returns a file that no other process can lock.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open state: %w; use another --state-dir, or off", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("%w: it has locked %s; use another --state-dir", ErrInUse, path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// readFile returns what a file holds, by bucket and key; nothing if it is not there.
func readFile(path string) (map[string]map[string][]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	content, err := readPages(data)
	if err != nil {
		return nil, err
	}
	for bucket, all := range content {
		for key, value := range all {
			if _, err := open([]byte(key), value); err != nil {
				return nil, fmt.Errorf("%w in %s", err, bucket)
			}
		}
	}
	return content, complete(content)
}

// complete finds out whether a file has all that its head says.
func complete(content map[string]map[string][]byte) error {
	var h Head
	sealed := content[string(bucketMeta)][string(keyHead)]
	if sealed == nil {
		return nil
	}
	value, err := open(keyHead, sealed)
	if err == nil {
		err = json.Unmarshal(value, &h)
	}
	if err != nil || h.Schema > schema {
		return err
	}
	for n := h.First; n <= h.Last && n > 0; n++ {
		if content[string(bucketEntries)][string(numberKey(n))] == nil {
			return fmt.Errorf("%w: revision %d is missing", errBroken, n)
		}
	}
	for _, u := range h.Documents {
		if content[string(bucketDocuments)][u.Digest] == nil {
			return errNoDocument
		}
	}
	return nil
}

// rewrite puts a new file with the content in the place of the one at path, in one
// step, and returns it open. So nothing is taken over that was not looked at.
func rewrite(path string, content map[string]map[string][]byte) (*bolt.DB, error) {
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	db, err := bolt.Open(fresh, 0o600, &bolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			b, err := tx.CreateBucketIfNotExists(name)
			if err != nil {
				return err
			}
			for key, value := range content[string(name)] {
				if err := b.Put([]byte(key), value); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal returns a value with a checksum of it and its key, open what was sealed.
func seal(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	return append(binary.BigEndian.AppendUint32(nil, sum), value...)
}

func open(key, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 {
		return nil, fmt.Errorf("%w: a value is cut", errBroken)
	}
	value := sealed[4:]
	if sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value); sum != binary.BigEndian.Uint32(sealed) {
		return nil, fmt.Errorf("%w: a checksum is wrong", errBroken)
	}
	return value, nil
}

func put(b *bolt.Bucket, key []byte, value any) error {
	data, ok := value.([]byte)
	if !ok {
		var err error
		if data, err = json.Marshal(value); err != nil {
			return err
		}
	}
	return b.Put(key, seal(key, data))
}

// get returns a copy of a value, nil if there is none.
func get(b *bolt.Bucket, key []byte) ([]byte, error) {
	sealed := b.Get(key)
	if sealed == nil {
		return nil, nil
	}
	value, err := open(key, sealed)
	return append([]byte(nil), value...), err
}

func numberKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func (f *File) Head(context.Context) (h Head, err error) {
	err = f.db.View(func(tx *bolt.Tx) error {
		data, err := get(tx.Bucket(bucketMeta), keyHead)
		if data == nil || err != nil {
			return err
		}
		return json.Unmarshal(data, &h)
	})
	return h, err
}

func (f *File) Append(_ context.Context, h Head, entries []Entry, documents map[string][]byte) error {
	return f.db.Update(func(tx *bolt.Tx) error {
		all := tx.Bucket(bucketEntries)
		all.FillPercent = 0.9 // they come at the end
		for i := range entries {
			if err := put(all, numberKey(entries[i].Number), &entries[i]); err != nil {
				return err
			}
		}
		for digest, data := range documents {
			if err := put(tx.Bucket(bucketDocuments), []byte(digest), data); err != nil {
				return err
			}
		}
		if err := trim(tx, &h); err != nil {
			return err
		}
		crashpoint.Pass()
		return put(tx.Bucket(bucketMeta), keyHead, h)
	})
}

// trim drops what is not of the head any more.
func trim(tx *bolt.Tx, h *Head) error {
	var over [][]byte
	c := tx.Bucket(bucketEntries).Cursor()
	for key, _ := c.First(); key != nil && binary.BigEndian.Uint64(key) < h.First; key, _ = c.Next() {
		over = append(over, key)
	}
	for _, key := range over {
		if err := tx.Bucket(bucketEntries).Delete(key); err != nil {
			return err
		}
	}
	over = nil
	c = tx.Bucket(bucketDocuments).Cursor()
	for key, _ := c.First(); key != nil; key, _ = c.Next() {
		if !h.has(string(key)) {
			over = append(over, key)
		}
	}
	for _, key := range over {
		if err := tx.Bucket(bucketDocuments).Delete(key); err != nil {
			return err
		}
	}
	return nil
}

func (f *File) Entries(_ context.Context, first, last uint64) (all []Entry, err error) {
	err = f.db.View(func(tx *bolt.Tx) error {
		for n := first; n <= last; n++ {
			data, err := get(tx.Bucket(bucketEntries), numberKey(n))
			if data == nil || err != nil {
				return err
			}
			var e Entry
			if err := json.Unmarshal(data, &e); err != nil {
				return err
			}
			all = append(all, e)
		}
		return nil
	})
	return all, err
}

func (f *File) Document(_ context.Context, digest string) (data []byte, err error) {
	err = f.db.View(func(tx *bolt.Tx) error {
		data, err = get(tx.Bucket(bucketDocuments), []byte(digest))
		if data == nil && err == nil {
			err = errNoDocument
		}
		return err
	})
	return data, err
}

func (f *File) Keep(_ context.Context, name string, data []byte) error {
	return f.db.Update(func(tx *bolt.Tx) error {
		return put(tx.Bucket(bucketKept), []byte(name), keptData{time.Now(), data})
	})
}

func (f *File) Kept(_ context.Context, name string) (_ []byte, _ time.Time, err error) {
	var k keptData
	err = f.db.View(func(tx *bolt.Tx) error {
		data, err := get(tx.Bucket(bucketKept), []byte(name))
		if data == nil || err != nil {
			return err
		}
		return json.Unmarshal(data, &k)
	})
	return k.Data, k.At, err
}

// Most implements [Store].
func (f *File) Most() int { return DefaultLimit }

// Close lets another process have the store.
func (f *File) Close() error { return errors.Join(f.db.Close(), f.lock.Close()) }
