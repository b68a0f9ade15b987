"""CRC-32C (Castagnoli 1993), many bytes at a time with NumPy: what TensorFlow's checkpoints are checked by.

The register is linear in what it has read, which gives two tricks.  A register to start with can be added to the first
four bytes instead; so can zeros before them, which change nothing.  And rows read side by side are joined afterwards.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]

POLYNOMIAL = 0x82F63B78  # bits in reverse
ROW = 1024  # bytes that are read one after the other
CHUNK = 4096 * ROW  # bytes whose rows are read side by side
ALL_ONES = 0xFFFFFFFF


def crc32c(data: Bytes) -> int:
    """data (n,)  ->  its checksum"""
    register = ALL_ONES
    for start in range(0, len(data), CHUNK):
        register = _read(register, data[start : start + CHUNK])
    return register ^ ALL_ONES


def masked(crc: int) -> int:
    """As TensorFlow stores it, so that data with checksums within can be checked too."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & ALL_ONES


def _read(register: int, data: Bytes) -> int:
    """The register after one chunk."""
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
    """The register after all rows, of the registers of each: pairs, then pairs of pairs."""
    level = 0
    while len(registers) > 1:
        registers = _applied(_zeros_matrix(level), registers[0::2]) ^ registers[1::2]
        level += 1
    return int(registers[0])


@cache
def _table() -> Words:
    """A register of one byte, after that byte is read."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(POLYNOMIAL), table >> 1)
    return table


@cache
def _zeros_matrix(level: int) -> Words:
    """The effect of ROW * 2^level bytes of zeros on each bit of a register (32,)"""
    if level:
        half = _zeros_matrix(level - 1)
        return _applied(half, half)
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(ROW):
        bits = _table()[bits & 255] ^ (bits >> 8)
    return bits


def _applied(of_bits: Words, registers: Words) -> Words:
    """A linear change, given by what becomes of each bit (32,), of registers (R,)  ->  (R,)"""
    changed = np.zeros_like(registers)
    for bit, becomes in enumerate(of_bits):
        changed ^= np.where(registers >> np.uint32(bit) & 1, becomes, np.uint32(0))
    return changed
