"""CRC-32C (Castagnoli 1993), the checksum of TensorFlow's checkpoints, vectorised with NumPy.

The register is linear over GF(2) in the bytes read, which allows two tricks: an initial register can be XORed into the
first four bytes, so zeros in front of them change nothing; and rows processed in parallel can be combined afterwards.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]

POLYNOMIAL = 0x82F63B78  # bit-reversed
ROW = 1024  # bytes processed sequentially
CHUNK = 4096 * ROW  # bytes whose rows are processed in parallel
ALL_ONES = 0xFFFFFFFF


def crc32c(data: Bytes) -> int:
    """data (n,)  ->  its checksum"""
    register = ALL_ONES
    for start in range(0, len(data), CHUNK):
        register = _read(register, data[start : start + CHUNK])
    return register ^ ALL_ONES


def masked(crc: int) -> int:
    """Mask a checksum as TensorFlow stores it, since a CRC over data that contains CRCs is weak."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & ALL_ONES


def _read(register: int, data: Bytes) -> int:
    """Return the register after one chunk."""
    if len(data) < 4:
        for byte in data.tolist():
            register = int(_table()[(register ^ byte) & 255]) ^ (register >> 8)
        return register
    n_rows = 1 << (-(-len(data) // ROW) - 1).bit_length()
    padded = np.zeros(n_rows * ROW, dtype=np.uint8)
    padded[-len(data) :] = data
    first = slice(len(padded) - len(data), len(padded) - len(data) + 4)
    padded[first] ^= np.frombuffer(register.to_bytes(4, "little"), dtype=np.uint8)
    return _combined(_registers(padded.reshape(n_rows, ROW)))


def _registers(rows: Bytes) -> Words:
    """rows (R, ROW)  ->  the register after each, from 0 (R,)"""
    registers, table = np.zeros(len(rows), dtype=np.uint32), _table()
    for column in np.ascontiguousarray(rows.T):
        registers = table[(registers ^ column) & 255] ^ (registers >> 8)
    return registers


def _combined(registers: Words) -> int:
    """Combine the rows' registers into one, pairwise."""
    level = 0
    while len(registers) > 1:
        registers = _apply(_zeros_matrix(level), registers[0::2]) ^ registers[1::2]
        level += 1
    return int(registers[0])


@cache
def _table() -> Words:
    """Return the 256 registers after reading one byte."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(POLYNOMIAL), table >> 1)
    return table


@cache
def _zeros_matrix(level: int) -> Words:
    """Return the effect of ROW * 2^level zero bytes on each bit of a register (32,)."""
    if level:
        half = _zeros_matrix(level - 1)
        return _apply(half, half)
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(ROW):
        bits = _table()[bits & 255] ^ (bits >> 8)
    return bits


def _apply(matrix: Words, registers: Words) -> Words:
    """Multiply registers (R,) by a matrix over GF(2), given as the image of each bit (32,)  ->  (R,)"""
    result = np.zeros_like(registers)
    for bit, image in enumerate(matrix):
        result ^= np.where(registers >> np.uint32(bit) & 1, image, np.uint32(0))
    return result
