package loader

// What this writes is committed, so that building needs only Go. The compiler
// is pinned: another one makes other bytes, and CI compares. The wide programs are
// of the same source; of their types, only those with addresses are generated, once.
//
//go:generate env BPF2GO_CC=clang-19 BPF2GO_STRIP=llvm-strip-19 go tool bpf2go -target bpfel -go-package loader -type control_mode -type idle -type service_state -type service_flag -type backend_state -type backend_flag -type flow_dir -type trouble -type flow_state -type hop -type flow -type stamp -type device_flag -type special_era -type eviction -type client_rule -type address_use -type balance -type event_kind -type event_count -type event -type held -type told_part -type fitness -type verdict LB ../bpf/lb.c -- -O2 -g -Wall -Wextra -Werror -mcpu=v3 -fno-strict-aliasing -I../bpf/env -I/usr/include/x86_64-linux-gnu
//go:generate env BPF2GO_CC=clang-19 BPF2GO_STRIP=llvm-strip-19 go tool bpf2go -target bpfel -go-package loader -no-global-types -type listener -type client_prefix -type source -type flow_key -type flow -type bucket LB6 ../bpf/lb.c -- -DIPV6 -O2 -g -Wall -Wextra -Werror -mcpu=v3 -fno-strict-aliasing -I../bpf/env -I/usr/include/x86_64-linux-gnu
//go:generate env BPF2GO_CC=clang-19 BPF2GO_STRIP=llvm-strip-19 go tool bpf2go -target bpfel -go-package loader -no-global-types LB46 ../bpf/lb.c -- -DMIXED -O2 -g -Wall -Wextra -Werror -mcpu=v3 -fno-strict-aliasing -I../bpf/env -I/usr/include/x86_64-linux-gnu
