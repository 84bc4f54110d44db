import numpy as np
import pytest
import torch

from eval.embed import FUSIONS, fit, fused


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (7, 112, 112, 3), dtype=np.uint8)


def embed(images):
    """A feature that depends on every pixel, and tells an image from its mirror image."""
    x = torch.as_tensor(images).double().flatten(1) - 127
    h = x @ torch.randn(x.shape[1], 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = h.norm(dim=1)
    return (h / z[:, None]).float(), z.float()


def raw(images):
    u, z = (part.double().numpy() for part in embed(images))
    return u, z


@pytest.mark.parametrize("fusion", FUSIONS)
def test_fusions(images, fusion):
    """Each written out, image by image."""
    (u, z), (u_mirrored, z_mirrored) = raw(images), raw(images[:, :, ::-1].copy())
    h, norms = fused(embed, images, fusion)
    for k in range(len(images)):
        both = u[k] * z[k] + u_mirrored[k] * z_mirrored[k]
        expected = {
            "sum": both,
            "norm": both / np.sqrt((both**2).sum()),
            "average": u[k] + u_mirrored[k],
            "none": u[k] * z[k],
        }[fusion]
        np.testing.assert_allclose(h[k], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
        assert float(norms[k]) == pytest.approx(z[k] if fusion == "none" else (z[k] + z_mirrored[k]) / 2, rel=1e-6)


def test_another_fusion(images):
    with pytest.raises(ValueError, match="fusion='max': expected one of sum, norm, average, none"):
        fused(embed, images, "max")


def test_fit_leaves_faces_of_the_right_size(images):
    assert np.array_equal(fit(images[0]), images[0])


@pytest.mark.parametrize("shape", [(250, 250), (56, 56), (112, 140), (300, 200), (97, 301), (1, 4096), (4096, 1)])
def test_fit_keeps_the_centre(shape):
    height, width = shape
    rows, columns = np.linspace(0, 255, height)[:, None], np.linspace(0, 255, width)
    image = np.stack(np.broadcast_arrays(rows, columns, 77), axis=2).astype(np.uint8)
    fitted = fit(image)
    assert fitted.shape == (112, 112, 3) and (fitted[..., 2] == 77).all()
    if min(shape) > 1:
        assert abs(fitted[55:57, 55:57, :2].mean() - 127) < 4
        shown = [np.ptp(fitted[..., axis].astype(float)) / 255 for axis in (0, 1)]
        assert shown == pytest.approx([min(shape) / height, min(shape) / width], abs=0.05)
