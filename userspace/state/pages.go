package state

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
)

// A pageFile is the contents of a bbolt file that may be damaged anywhere. bbolt
// itself trusts what it reads: a wrong byte can end the process, or keep it busy for
// ever. Here each page is met once at most, and nothing is read beyond the end.
//
// The form is that of its version 2. A page begins with its number (8 bytes), flags
// (2), how many elements it has (2), and how many pages follow that belong to it (4).
// An element of a branch has where its key is (4), its length (4), and a page (8); one
// of a leaf has flags (4), where its key is (4), and the lengths of key and value (4
// each). What is where counts from the element.
type pageFile struct {
	data []byte
	size uint64 // of a page
	met  map[uint64]bool
}

const (
	pageHeader  = 16
	elementSize = 16
	flagBranch  = 1
	flagLeaf    = 2
	flagBucket  = 1
	bucketSize  = 16 // its page (8) and a counter (8), before what is inside
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	metaSum     = 56 // where its checksum stands
	metaRoot    = 16
	metaTx      = 48
)

// readPages returns what the buckets of a file hold.
func readPages(data []byte) (map[string]map[string][]byte, error) {
	f := &pageFile{data: data, met: map[uint64]bool{}}
	root, err := f.root()
	if err != nil {
		return nil, err
	}
	all := map[string]map[string][]byte{}
	err = f.page(root, func(name, value []byte, isBucket bool) error {
		if !isBucket || len(value) < bucketSize {
			return cut("bucket")
		}
		keys := map[string][]byte{}
		all[string(name)] = keys
		add := func(key, value []byte, isBucket bool) error {
			if isBucket {
				return cut("bucket")
			}
			keys[string(key)] = value
			return nil
		}
		if at := binary.LittleEndian.Uint64(value); at != 0 {
			return f.page(at, add)
		}
		return f.elements(value[bucketSize:], add)
	})
	for _, name := range buckets {
		if err == nil && all[string(name)] == nil {
			err = cut("list of buckets")
		}
	}
	return all, err
}

func cut(what string) error { return fmt.Errorf("%w: a %s makes no sense", errBroken, what) }

// root returns the page where the newest whole transaction begins.
func (f *pageFile) root() (root uint64, err error) {
	newest, found := uint64(0), false
	size := uint64(os.Getpagesize())
	for at := range uint64(2) {
		m, err := f.slice(at*size+pageHeader, metaSum+8)
		if err != nil {
			continue
		}
		sum := fnv.New64a()
		sum.Write(m[:metaSum])
		if sum.Sum64() != binary.LittleEndian.Uint64(m[metaSum:]) || binary.LittleEndian.Uint32(m) != metaMagic || binary.LittleEndian.Uint32(m[4:]) != metaVersion {
			continue
		}
		if tx := binary.LittleEndian.Uint64(m[metaTx:]); !found || tx > newest {
			newest, found = tx, true
			root, f.size = binary.LittleEndian.Uint64(m[metaRoot:]), uint64(binary.LittleEndian.Uint32(m[8:]))
		}
	}
	if !found || f.size < elementSize {
		return 0, cut("beginning")
	}
	return root, nil
}

func (f *pageFile) slice(at, size uint64) ([]byte, error) {
	if at > uint64(len(f.data)) || size > uint64(len(f.data))-at {
		return nil, cut("page")
	}
	return f.data[at : at+size], nil
}

// page calls each for all keys of a page and those below it.
func (f *pageFile) page(at uint64, each func(key, value []byte, isBucket bool) error) error {
	if f.met[at] || at > uint64(len(f.data))/f.size {
		return cut("page")
	}
	f.met[at] = true
	head, err := f.slice(at*f.size, pageHeader)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint64(head) != at {
		return cut("page")
	}
	p, err := f.slice(at*f.size, (uint64(binary.LittleEndian.Uint32(head[12:]))+1)*f.size)
	if err != nil {
		return err
	}
	return f.elements(p, each)
}

// elements calls each for all keys of what a page has.
func (f *pageFile) elements(p []byte, each func(key, value []byte, isBucket bool) error) error {
	if len(p) < pageHeader {
		return cut("page")
	}
	flags, count := binary.LittleEndian.Uint16(p[8:]), int(binary.LittleEndian.Uint16(p[10:]))
	if pageHeader+count*elementSize > len(p) || flags != flagBranch && flags != flagLeaf {
		return cut("page")
	}
	for i := range count {
		e := p[pageHeader+i*elementSize:]
		if flags == flagBranch {
			if err := f.page(binary.LittleEndian.Uint64(e[8:]), each); err != nil {
				return err
			}
			continue
		}
		at, key, value := uint64(binary.LittleEndian.Uint32(e[4:])), uint64(binary.LittleEndian.Uint32(e[8:])), uint64(binary.LittleEndian.Uint32(e[12:]))
		if at+key+value > uint64(len(e)) {
			return cut("key")
		}
		if err := each(e[at:at+key], e[at+key:at+key+value], binary.LittleEndian.Uint32(e)&flagBucket != 0); err != nil {
			return err
		}
	}
	return nil
}
