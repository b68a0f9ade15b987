// Tensor-core products, and copies that go on while the kernel does, by PTX.  tests/cusim/include has the C++ twin.
#pragma once
#include "common_ptx.cuh"

__device__ __forceinline__ float bf_lo(u32 pair) {
    return __uint_as_float(pair << 16);
}
__device__ __forceinline__ float bf_hi(u32 pair) {
    return __uint_as_float(pair & 0xffff0000u);
}

// d (16, 8) += a (16, 16) . b (16, 8), spread over the warp's registers: lane 4g + t has rows g and g + 8 of a and d,
// and column g of b (PTX, "Matrix Fragments for mma.m16n8k16").
__device__ __forceinline__ void mma_bf16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1)
    );
}

typedef u32 Address;  // of a byte in shared memory

__device__ __forceinline__ Address address_of(const u16* shared) {
    return static_cast<Address>(__cvta_generic_to_shared(shared));
}

// Four matrices of 8 x 8 from shared memory, lane i giving the row i % 8 of matrix i / 8: 16 bytes, aligned to as many.
template <bool TRANS>
__device__ __forceinline__ void ldmatrix4(u32 (&r)[4], Address row) {
    if constexpr (TRANS) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(row)
                     : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(row)
                     : "memory");
    }
}
template <bool TRANS>
__device__ __forceinline__ void ldmatrix4(u32 (&r)[4], const u16* row) {
    ldmatrix4<TRANS>(r, address_of(row));
}

// Start to copy 16 bytes to shared memory; zeros where there is no source.
__device__ __forceinline__ void cp_async16(void* to, const void* from, bool there) {
    u32 address = static_cast<u32>(__cvta_generic_to_shared(to));
    int bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
// Wait until at most N of this thread's groups are under way.
template <int N>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

__device__ __forceinline__ float exp2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
