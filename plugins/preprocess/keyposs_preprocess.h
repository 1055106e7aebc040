/* Face crops on the GPU: BGR or NV12 frames in device memory -> crops, as a network takes them. C99 and C++; docs/preprocess.md. */
#ifndef KEYPOSS_PREPROCESS_H
#define KEYPOSS_PREPROCESS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where one crop comes from; 72 bytes. Pixel centres lie at whole numbers.
 *
 * The region is a rectangle of the frame, shrunk by `factor`; crop pixels are sampled from it bilinearly, and outside it lies the border.
 * All of it must lie inside the frame. Rows that make no sense (a null pointer, an unknown format, no pixel) give a crop that is all
 * border. */
typedef struct KeypossCrop {
  const void* pixels;          /* device address of the frame: BGR, or the Y plane of NV12 */
  const void* chroma;          /* the interleaved UV plane of NV12, wherever it lies; null for BGR */
  float to_region[6];          /* row-major 2x3: crop pixel (x, y, 1) -> region pixel */
  int32_t left, top;           /* first frame pixel of the region */
  int32_t columns, rows;       /* size of the region in region pixels; 0 gives a crop that is all border */
  int32_t factor;              /* region pixel (i, j) is the mean of frame pixels [left + i * factor, + factor) x [top + j * factor,
                                  + factor), as a whole level; 1 is plain bilinear sampling */
  int32_t pitch, chroma_pitch; /* bytes from one row to the next */
  int32_t format;              /* 0: BGR, 1: NV12 of BT.601, 2: NV12 of BT.709, both of limited range */
} KeypossCrop;

/* Makes `count` crops of `size` x `size` pixels in one launch on `stream`; nothing is allocated, and nothing is waited for.
 *
 * `crops` and `out` are device memory (in the library for the CPU: memory). The rows are read by the GPU when the launch runs: a CUDA
 * graph that has captured it makes other crops once other rows lie there. `out` is uint8 [N, S, S, 3] for `layout` 0, float [N, 3, S, S]
 * for 1, half [N, 3, S, S] for 2; RGB each. The last two hold (rgb - mean) * scale, with rgb and `border` in 0 to 255; `mean` and `scale`
 * are host memory [3], read at the call, and null stands for 0 and 1.
 *
 * A count of 0 launches nothing, but loads the kernel onto the GPU: do so, or launch once, before a stream is captured.
 *
 * Returns 0 or a cudaError_t; cudaErrorInvalidValue (1) for arguments that make no sense, memory that is not aligned to its type
 * included. */
int32_t keyposs_preprocess(const KeypossCrop* crops, int32_t count, int32_t size, void* out, int32_t layout, const float* mean,
                           const float* scale, int32_t border, void* stream);

/* The words for a code that keyposs_preprocess has returned. */
const char* keyposs_preprocess_error(int32_t code);

#ifdef __cplusplus
}
#endif

#endif
