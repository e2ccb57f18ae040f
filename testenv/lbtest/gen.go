package lbtest

// The same C as package loader's, but for the header that asks the world.
//
//go:generate env BPF2GO_CC=clang-19 BPF2GO_STRIP=llvm-strip-19 go tool bpf2go -target bpfel -go-package lbtest -no-global-types -type fib lb ../../bpf/lb.c -- -O2 -g -Wall -Wextra -Werror -mcpu=v3 -fno-strict-aliasing -I../../bpf/test -I/usr/include/x86_64-linux-gnu
//go:generate env BPF2GO_CC=clang-19 BPF2GO_STRIP=llvm-strip-19 go tool bpf2go -target bpfel -go-package lbtest -no-global-types lb6 ../../bpf/lb.c -- -DIPV6 -O2 -g -Wall -Wextra -Werror -mcpu=v3 -fno-strict-aliasing -I../../bpf/test -I/usr/include/x86_64-linux-gnu
//go:generate env BPF2GO_CC=clang-19 BPF2GO_STRIP=llvm-strip-19 go tool bpf2go -target bpfel -go-package lbtest -no-global-types lb46 ../../bpf/lb.c -- -DMIXED -O2 -g -Wall -Wextra -Werror -mcpu=v3 -fno-strict-aliasing -I../../bpf/test -I/usr/include/x86_64-linux-gnu
