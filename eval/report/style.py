"""The look of the page: one column on a phone, two on a desk, black on white in print."""

from eval.svg import STYLE as CHARTS

STYLE = (
    CHARTS
    + """
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,"Segoe UI",Roboto,"Liberation Sans",sans-serif}
header,main,footer,nav{max-width:70rem;margin:0 auto;padding:0 1rem}
header{padding-top:1.5rem}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .3rem}
h2{font-size:1.35rem;margin:2.2rem 0 .6rem;padding-top:.6rem;border-top:2px solid var(--grid)}
h3{font-size:1.08rem;margin:1.4rem 0 .4rem}
h1,h2,h3,p,li,figcaption,.config td{overflow-wrap:anywhere}
p,ul{margin:.4rem 0 .7rem}
a{color:var(--c0)}
a,summary,.scroll{outline-offset:2px}
:focus-visible{outline:3px solid var(--c1)}
.skip{position:absolute;left:-100vw}
.skip:focus{left:1rem;top:.5rem;background:var(--paper);padding:.4rem .8rem}
.soft,figcaption span,footer{color:var(--soft)}
nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;padding:0;list-style:none}
nav a{display:inline-block;padding:.25rem 0}
.lead{font-size:1.08rem;padding-left:1.2rem}
.note{border-left:4px solid var(--c1);padding:.1rem .8rem}
.scroll{overflow-x:auto;margin:.5rem 0}
table{border-collapse:collapse;font-size:.92rem}
th,td{padding:.28rem .8rem .28rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--grid)}
thead th{border-bottom:2px solid var(--soft);white-space:nowrap}
td{white-space:nowrap}
.config td,.words td{white-space:normal}
tbody th{font-weight:normal}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
caption{text-align:left;color:var(--soft)}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr));gap:1rem;margin:.8rem 0}
.card{margin:0;padding:.7rem;border:1px solid var(--grid);border-radius:8px;min-width:0;max-width:36rem}
.card svg{display:block;width:100%;height:auto;margin-top:.4rem}
figcaption{font-size:.92rem}
figcaption span{display:block}
summary{cursor:pointer;padding:.25rem 0;font-weight:600}
.card summary{font-size:.92rem;font-weight:normal}
.faces{display:flex;flex-wrap:wrap;gap:.8rem;padding:0;margin:.4rem 0;list-style:none}
.faces li{font-size:.82rem;line-height:1.3;break-inside:avoid}
.faces div{display:flex;gap:3px}
.faces img{display:block;width:80px;height:80px;border-radius:4px}
.faces span{display:block}
.sheet li{width:80px}
footer{padding:1.5rem 1rem 3rem;font-size:.9rem}
@media (max-width:30rem){
th,td{padding-right:.6rem}
.card{padding:.5rem .35rem}
.faces img{width:72px;height:72px}.sheet li{width:72px}h1{font-size:1.4rem}}
@media print{
nav,.skip{display:none}
body{font-size:10pt}
.charts{display:block}
.card{display:inline-block;width:48%;margin:0 1% .8rem 0;vertical-align:top;break-inside:avoid}
.card details{display:none}
details::details-content{content-visibility:visible;display:block}
summary{list-style:none}
.scroll{overflow:visible}
h2,h3,summary,.group{break-after:avoid}
tr{break-inside:avoid}
}
"""
)
