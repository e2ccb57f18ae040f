package main

// The datapath of package loader with what it is compared with beside it.
//
//go:generate env BPF2GO_CC=clang-19 BPF2GO_STRIP=llvm-strip-19 go tool bpf2go -target bpfel -go-package main -no-global-types bench bpf/bench.c -- -O2 -g -Wall -Wextra -Werror -mcpu=v3 -fno-strict-aliasing -I../../bpf/env -I/usr/include/x86_64-linux-gnu
